/// Topics made, deleted and listed; and a whole cluster inside of the process, for tests.
#ifndef TIDEGATE_CLUSTER_HPP
#define TIDEGATE_CLUSTER_HPP

#include "config.hpp"

namespace tidegate {
inline namespace TIDEGATE_FACE {

/// A topic of the cluster.
struct Topic {
    std::string name;
    std::int32_t partitions = 0;
};

/// A topic to create.
struct NewTopic {
    std::string name;
    std::int32_t partitions = 1;
    std::int32_t replication = TG_REPLICATION_DEFAULT;
    std::vector<std::pair<std::string, std::string>> settings{};  ///< Such as `retention.ms`.
};

/// What became of each topic, in their order.
struct TopicsOutcome {
    std::vector<std::int32_t> kafka_codes;  ///< 0 for success, else Kafka's code: 36 for a topic that exists, 3 for one that does not.
    std::optional<Error> error;             ///< The first failure.

    bool is_complete() const noexcept { return !error; }
};

namespace detail {

inline std::vector<Topic> topics_out(tg_topics* made) {
    const Handle<tg_topics, tg_topics_free> owner(made);
    std::vector<Topic> topics;
    const tg_topic* rows = tg_topics_data(made);
    for (std::size_t i = 0; i < tg_topics_count(made); ++i) {
        topics.push_back({rows[i].name, rows[i].partitions});
    }
    return topics;
}

}  // namespace detail

/// Creates, deletes and lists topics. Any thread may call everything.
class Admin {
public:
    /// It connects in the background.
    static Returned<Admin> create(const Config& config) { return detail::make_client<Admin, tg_admin>(config, tg_admin_new); }
#if TIDEGATE_THROWS
    explicit Admin(const Config& config) : Admin(create(config)) {}
#endif
    /// Takes over a client of C's.
    explicit Admin(tg_admin* admin) noexcept : admin_(admin) {}

    /// Creates topics: one that cannot be created does not keep the others from it, and is told in the outcome. An error is what kept the
    /// cluster from answering.
    Returned<TopicsOutcome> create_topics(const std::vector<NewTopic>& topics, std::chrono::milliseconds timeout) {
        std::vector<std::vector<tg_setting>> settings;
        std::vector<tg_new_topic> rows;
        settings.reserve(topics.size());
        for (const NewTopic& topic : topics) {
            if (auto error = detail::refuse_nul("topics", topic.name)) {
                return detail::fail<TopicsOutcome>(*error);
            }
            auto& own = settings.emplace_back();
            for (const auto& [name, value] : topic.settings) {
                if (auto error = detail::refuse_nul("settings", name + value)) {
                    return detail::fail<TopicsOutcome>(*error);
                }
                own.push_back({name.c_str(), value.c_str()});
            }
            rows.push_back({topic.name.c_str(), topic.partitions, topic.replication, own.data(), own.size()});
        }
        return outcome(rows.size(), [&](std::int32_t* codes) {
            return tg_admin_create_topics(admin_.get(), rows.data(), rows.size(), timeout.count(), codes);
        });
    }
    /// Deletes topics and everything in them; as create_topics().
    Returned<TopicsOutcome> delete_topics(const std::vector<std::string>& names, std::chrono::milliseconds timeout) {
        std::vector<const char*> rows;
        for (const std::string& name : names) {
            if (auto error = detail::refuse_nul("names", name)) {
                return detail::fail<TopicsOutcome>(*error);
            }
            rows.push_back(name.c_str());
        }
        return outcome(rows.size(), [&](std::int32_t* codes) {
            return tg_admin_delete_topics(admin_.get(), rows.data(), rows.size(), timeout.count(), codes);
        });
    }
    /// Replaces user name and password of SASL PLAIN or SCRAM, for the next connections; those that are up stay as they are.
    Returned<void> set_sasl_credentials(const std::string& username, const std::string& password) {
        return detail::done(tg_admin_set_sasl_credentials(admin_.get(), username.c_str(), password.c_str()));
    }
    /// The cluster's topics, Kafka's internal ones included, in the order of their names.
    Returned<std::vector<Topic>> topics(std::chrono::milliseconds timeout) {
        tg_topics* list = nullptr;
        if (const tg_status status = tg_admin_topics(admin_.get(), timeout.count(), &list); detail::failed(status)) {
            return detail::fail<std::vector<Topic>>(status);
        }
        return detail::topics_out(list);
    }

    tg_admin* get() const noexcept { return admin_.get(); }

private:
    template <class Call>
    static Returned<TopicsOutcome> outcome(std::size_t count, Call call) {
        // No code of Kafka's: it stays where the cluster has not answered.
        constexpr std::int32_t unanswered = INT32_MIN;
        TopicsOutcome outcome;
        outcome.kafka_codes.resize(count, unanswered);
        if (const tg_status status = call(outcome.kafka_codes.data()); detail::failed(status)) {
            if (outcome.kafka_codes.empty() || outcome.kafka_codes.front() == unanswered) {
                return detail::fail<TopicsOutcome>(status);
            }
            outcome.error = Error::last(status);
        }
        return outcome;
    }

    detail::Handle<tg_admin, tg_admin_free> admin_;
};

/// A Kafka cluster inside of this process, on loopback ports, for tests: librdkafka's mock cluster. Any thread may call everything.
class Broker {
public:
    /// Starts `brokers` brokers, numbered from 1.
    static Returned<Broker> create(std::int32_t brokers = 1) {
        if (auto error = detail::refuse_abi()) {
            return detail::fail<Broker>(*error);
        }
        tg_broker* made = nullptr;
        if (const tg_status status = tg_broker_new(brokers, &made); detail::failed(status)) {
            return detail::fail<Broker>(status);
        }
        return Broker(made);
    }
#if TIDEGATE_THROWS
    explicit Broker(std::int32_t brokers = 1) : Broker(create(brokers)) {}
#endif
    /// Takes over a cluster of C's.
    explicit Broker(tg_broker* broker) noexcept : broker_(broker) {}

    /// What clients set as `bootstrap.servers`.
    std::string bootstrap_servers() const {
        const char* servers = tg_broker_bootstrap_servers(broker_.get());
        return servers == nullptr ? "" : servers;
    }
    Returned<void> create_topic(const std::string& topic, std::int32_t partitions) {
        return detail::done(tg_broker_create_topic(broker_.get(), topic.c_str(), partitions));
    }
    /// Disconnects a broker, or TG_ALL_BROKERS, until up().
    Returned<void> down(std::int32_t number = TG_ALL_BROKERS) { return detail::done(tg_broker_down(broker_.get(), number)); }
    Returned<void> up(std::int32_t number = TG_ALL_BROKERS) { return detail::done(tg_broker_up(broker_.get(), number)); }
    /// Makes a broker answer no sooner than after so long.
    Returned<void> round_trip_time(std::int32_t number, std::chrono::milliseconds delay) {
        return detail::done(tg_broker_round_trip_time(broker_.get(), number, delay.count()));
    }
    /// Makes the next requests of a kind fail with these Kafka codes, one each.
    Returned<void> request_errors(tg_request request, const std::vector<std::int32_t>& kafka_codes) {
        return detail::done(tg_broker_request_errors(broker_.get(), request, kafka_codes.data(), kafka_codes.size()));
    }
    Returned<void> clear_request_errors(tg_request request) {
        return detail::done(tg_broker_clear_request_errors(broker_.get(), request));
    }
    /// Makes a broker the leader of a partition; 0 leaves it without one.
    Returned<void> set_leader(const std::string& topic, std::int32_t partition, std::int32_t number) {
        return detail::done(tg_broker_set_leader(broker_.get(), topic.c_str(), partition, number));
    }
    Returned<void> set_group_coordinator(const std::string& group, std::int32_t number) {
        return detail::done(tg_broker_set_group_coordinator(broker_.get(), group.c_str(), number));
    }

    tg_broker* get() const noexcept { return broker_.get(); }

private:
    detail::Handle<tg_broker, tg_broker_free> broker_;
};

}  // namespace TIDEGATE_FACE
}  // namespace tidegate

#endif
