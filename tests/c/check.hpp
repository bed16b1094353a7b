// Test macros for C++: CHECK ends the test that it fails in by an exception, or, without exceptions, ends the program.
#ifndef CHECK_HPP
#define CHECK_HPP

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>

namespace check {

struct Failure {
    std::string text;
};

[[noreturn]] inline void fail(const char* file, int line, const std::string& text) {
    std::ostringstream whole;
    whole << "  " << file << ":" << line << ": " << text;
#ifdef __cpp_exceptions
    throw Failure{whole.str()};
#else
    std::printf("%s\n", whole.str().c_str());
    std::fflush(stdout);
    std::abort();
#endif
}

template <class Found, class Expected>
void equal(const char* file, int line, const char* what, const Found& found, const Expected& expected) {
    if (!(found == expected)) {
        std::ostringstream text;
        text << what << " is " << found << ", not " << expected;
        fail(file, line, text.str());
    }
}

}  // namespace check

#define CHECK(condition) ((condition) ? (void)0 : check::fail(__FILE__, __LINE__, "not true: " #condition))
#define CHECK_EQUAL(found, expected) check::equal(__FILE__, __LINE__, #found, found, expected)

#endif
