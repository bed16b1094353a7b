/// Configurations, and partitions with their offsets: plain values.
#ifndef TIDEGATE_CONFIG_HPP
#define TIDEGATE_CONFIG_HPP

#include "error.hpp"

#include <functional>
#include <initializer_list>
#include <memory>

namespace tidegate {
inline namespace TIDEGATE_FACE {

/// A token of SASL OAUTHBEARER.
struct Token {
    std::string value;
    /// When it expires, in milliseconds since 1970.
    std::int64_t expires_at_ms = 0;
    std::string principal;
    std::vector<std::pair<std::string, std::string>> extensions;
};

/// Gives tokens; called with the property `sasl.oauthbearer.config` on a thread of the client that asks, several clients at once. Nothing, and
/// an exception, mean that there is none now: asked again some seconds later.
using TokenProvider = std::function<std::optional<Token>(std::string_view config)>;

/// Names and values, as librdkafka or the Java client call them. A value like any other: copied, changed and kept at will.
class Config {
public:
    Config() = default;
    Config(std::initializer_list<std::pair<std::string, std::string>> properties) : properties_(properties) {}

    /// Sets a property: text, number or bool. Nothing is checked here: check() and the clients do, and tell all problems together.
    template <class Value>
    Config& set(std::string name, const Value& value) & {
        if constexpr (std::is_same_v<Value, bool>) {
            properties_.emplace_back(std::move(name), value ? "true" : "false");
        } else if constexpr (std::is_arithmetic_v<Value>) {
            properties_.emplace_back(std::move(name), std::to_string(value));
        } else {
            properties_.emplace_back(std::move(name), std::string(value));
        }
        return *this;
    }

    /// A copy with one property more.
    template <class Value>
    Config with(std::string name, const Value& value) const {
        Config copy = *this;
        copy.set(std::move(name), value);
        return copy;
    }

    /// Sets who gives the tokens of SASL OAUTHBEARER to the clients made with this configuration.
    Config& token_provider(TokenProvider provider) & {
        tokens_ = std::make_shared<const TokenProvider>(std::move(provider));
        return *this;
    }

    /// Everything that is wrong or doubtful for such a client, errors first, without connecting.
    Returned<std::vector<Problem>> check(tg_client client) const;

    /// As C wants it, for functions that are not wrapped here; an error when it cannot be.
    std::optional<Error> make(detail::Handle<tg_config, tg_config_free>& config) const {
        if (auto error = detail::refuse_abi()) {
            return error;
        }
        if (const tg_status status = tg_config_new(config.place()); detail::failed(status)) {
            return Error::last(status);
        }
        for (const auto& [name, value] : properties_) {
            if (auto error = detail::refuse_nul("name", name)) {
                return error;
            }
            if (auto error = detail::refuse_nul("value", value)) {
                return error;
            }
            if (const tg_status status = tg_config_set(config.get(), name.c_str(), value.c_str()); detail::failed(status)) {
                return Error::last(status);
            }
        }
        if (tokens_ != nullptr && *tokens_) {
            auto provider = std::make_unique<Provider>(tokens_);
            if (const tg_status status = tg_config_set_token_provider(config.get(), ask, provider.get(), forget); detail::failed(status)) {
                return Error::last(status);
            }
            // The library ends it from here on.
            provider.release();
        }
        return std::nullopt;
    }

private:
    using Provider = std::shared_ptr<const TokenProvider>;

    static void forget(void* user_data) { delete static_cast<Provider*>(user_data); }

    static void ask(tg_token_request* request, const char* config, void* user_data) noexcept {
        const TokenProvider& provider = **static_cast<Provider*>(user_data);
#if TIDEGATE_THROWS
        try {
            answer(request, provider(config));
        } catch (const std::exception& error) {
            tg_token_request_refuse(request, error.what());
        } catch (...) {
            tg_token_request_refuse(request, "the token provider has thrown");
        }
#else
        answer(request, provider(config));
#endif
    }

    static void answer(tg_token_request* request, const std::optional<Token>& token) {
        if (!token) {
            tg_token_request_refuse(request, "the token provider has no token now");
            return;
        }
        std::vector<tg_token_extension> extensions;
        for (const auto& [name, value] : token->extensions) {
            extensions.push_back({name.c_str(), value.c_str()});
        }
        tg_token_request_give(request, token->value.c_str(), token->expires_at_ms, token->principal.c_str(), extensions.data(),
                              extensions.size());
    }

    std::shared_ptr<const TokenProvider> tokens_;
    std::vector<std::pair<std::string, std::string>> properties_;
};

namespace detail {

/// Makes a client with a configuration: `create(tg_config*, Raw**)`.
template <class Client, class Raw, class Create>
Returned<Client> make_client(const Config& config, Create create) {
    Handle<tg_config, tg_config_free> made;
    if (auto error = config.make(made)) {
        return fail<Client>(*error);
    }
    Raw* raw = nullptr;
    if (const tg_status status = create(made.get(), &raw); failed(status)) {
        return fail<Client>(status);
    }
    return Client(raw);
}

}  // namespace detail

inline Returned<std::vector<Problem>> Config::check(tg_client client) const {
    detail::Handle<tg_config, tg_config_free> made;
    if (auto error = make(made)) {
        return detail::fail<std::vector<Problem>>(*error);
    }
    detail::Handle<tg_config_report, tg_config_report_free> report;
    if (const tg_status status = tg_config_check(made.get(), client, report.place()); detail::failed(status)) {
        return detail::fail<std::vector<Problem>>(status);
    }
    std::vector<Problem> problems;
    const tg_config_problem* rows = tg_config_report_data(report.get());
    for (std::size_t i = 0; i < tg_config_report_count(report.get()); ++i) {
        problems.emplace_back(rows[i]);
    }
    return problems;
}

/// A partition and, where that has a meaning, an offset: always that of the record to be read *next*, or a TG_OFFSET_ number.
struct TopicPartition {
    std::string topic;
    std::int32_t partition = 0;
    std::int64_t offset = TG_OFFSET_NONE;

    friend bool operator==(const TopicPartition& a, const TopicPartition& b) {
        return a.topic == b.topic && a.partition == b.partition && a.offset == b.offset;
    }
    friend bool operator!=(const TopicPartition& a, const TopicPartition& b) { return !(a == b); }
};

namespace detail {

inline std::vector<TopicPartition> partitions_out(const tg_topic_partition* rows, std::size_t count) {
    std::vector<TopicPartition> partitions;
    partitions.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        partitions.push_back({rows[i].topic, rows[i].partition, rows[i].offset});
    }
    return partitions;
}

/// A list that the library made, copied.
inline std::vector<TopicPartition> partitions_out(tg_partitions* made) {
    const Handle<tg_partitions, tg_partitions_free> owner(made);
    return partitions_out(tg_partitions_data(made), tg_partitions_count(made));
}

/// Points into `partitions`.
inline std::vector<tg_topic_partition> partitions_in(const std::vector<TopicPartition>& partitions) {
    std::vector<tg_topic_partition> rows;
    rows.reserve(partitions.size());
    for (const TopicPartition& partition : partitions) {
        rows.push_back({partition.topic.c_str(), partition.partition, partition.offset});
    }
    return rows;
}

inline std::optional<Error> refuse_nul(const std::vector<TopicPartition>& partitions) {
    for (const TopicPartition& partition : partitions) {
        if (auto error = refuse_nul("topic", partition.topic)) {
            return error;
        }
    }
    return std::nullopt;
}

}  // namespace detail
}  // namespace TIDEGATE_FACE
}  // namespace tidegate

#endif
