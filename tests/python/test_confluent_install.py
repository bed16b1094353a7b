"""`tidegate.confluent.install()`: who imports confluent_kafka gets Tidegate's. Each program is a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

HIDE_THE_REAL_ONE = """
import sys, importlib.machinery
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "confluent_kafka":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
ordinary = importlib.machinery.PathFinder.find_spec
def without(name, path=None, target=None):
    return None if name.split(".")[0] == "confluent_kafka" else ordinary(name, path, target)
importlib.machinery.PathFinder.find_spec = without
"""


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_module_of_the_name_is_tidegates() -> None:
    assert (
        run(
            """
            import tidegate.confluent
            tidegate.confluent.install()
            tidegate.confluent.install()
            import confluent_kafka, confluent_kafka.admin as admin, confluent_kafka.cimpl
            from confluent_kafka import KafkaError, TopicPartition
            import tidegate.confluent.admin
            assert confluent_kafka is tidegate.confluent and admin is tidegate.confluent.admin
            assert TopicPartition is tidegate.confluent.TopicPartition
            assert confluent_kafka.__spec__.name == "tidegate.confluent", confluent_kafka.__spec__
            assert tidegate.confluent.admin.__spec__.name == "tidegate.confluent.admin"
            assert confluent_kafka.cimpl.KafkaError is KafkaError
            try:
                import confluent_kafka.nowhere
            except ModuleNotFoundError as error:
                print(error)
            """
        )
        == "No module named 'confluent_kafka.nowhere'"
    )


def test_taken_back_the_next_import_is_the_real_one() -> None:
    run(
        """
        import tidegate.confluent
        tidegate.confluent.uninstall()
        tidegate.confluent.install()
        import confluent_kafka
        tidegate.confluent.uninstall()
        import confluent_kafka as real
        assert confluent_kafka is tidegate.confluent is not real
        assert "tidegate" not in real.__file__.split("confluent_kafka")[0].split("site-packages")[-1]
        assert real.KafkaError is not tidegate.confluent.KafkaError
        """
    )


def test_who_imported_before_is_told() -> None:
    assert "before the first import of it" in run(
        """
        import confluent_kafka, tidegate.confluent
        try:
            tidegate.confluent.install()
        except RuntimeError as error:
            print(error)
        import confluent_kafka.admin
        assert confluent_kafka is not tidegate.confluent
        """
    )


def test_without_the_real_package_only_the_schema_registry_is_missing() -> None:
    assert "confluent-kafka[schemaregistry]" in run(
        HIDE_THE_REAL_ONE
        + textwrap.dedent(
            """
            import tidegate.confluent
            tidegate.confluent.install()
            from confluent_kafka import KafkaException
            assert KafkaException is tidegate.confluent.KafkaException
            try:
                import confluent_kafka.schema_registry
            except ModuleNotFoundError as error:
                print(error)
            """
        )
    )
