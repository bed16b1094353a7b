"""The detection pipeline: three services between four kinds of record.

```
camera -> detection-results -> task generator -> assessment-tasks -> scheduler (LLM) -> risk-assessment-results -> aggregator
```

Every stage finishes its input record only when the broker has confirmed its output, and every id follows from the ids
before it, so a stage that is killed at any moment loses nothing, and what it does twice is recognised as the same.
"""
