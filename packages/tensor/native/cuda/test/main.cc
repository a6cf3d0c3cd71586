// Runs the kernel tests whose names contain one of the arguments, or all of them. --orders=0,1,7: the orders of
// threads.
#include <chrono>

#include "cuda/test/kernel_test.h"

namespace {

std::vector<int> OrdersOf(const char* list) {
  std::vector<int> orders;
  for (const char* at = list; *at != '\0'; at += *at == ',') {
    char* end;
    orders.push_back(static_cast<int>(strtol(at, &end, 10)));
    if (end == at) return {};
    at = end;
  }
  return orders;
}

bool ContainsOneOf(const std::string& name, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    if (name.find(part) != std::string::npos) return true;
  return false;
}

// What follows `option` in the argument; null: it is another one.
const char* ValueOf(const char* argument, const char* option) {
  const size_t length = strlen(option);
  return strncmp(argument, option, length) == 0 ? argument + length : nullptr;
}

// Throws if the test fails.
void RunInOrders(const kernel_test::Test& test, const std::vector<int>& orders) {
  uint64_t hash = 0;
  double worst = 0;
  for (size_t i = 0; i < orders.size(); i++) {
    emulation::order = orders[i];
    kernel_test::Start(test.name, i == 0);
    test.run();
    if (i == 0) worst = kernel_test::run.worst;
    if (i > 0 && kernel_test::run.hash != hash)
      kernel_test::Fail("other bytes with the threads in order " + std::to_string(orders[i]));
    hash = kernel_test::run.hash;
  }
  kernel_test::run.worst = worst;
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<int> orders{0, 1, 7};
  std::vector<std::string> wanted, unwanted;
  for (int i = 1; i < count; i++) {
    const char* argument = arguments[i];
    if (const char* list = ValueOf(argument, "--orders=")) {
      orders = OrdersOf(list);
    } else if (const char* part = ValueOf(argument, "--without=")) {
      unwanted.push_back(part);
    } else if (strcmp(argument, "--small") == 0) {
      kernel_test::small = true;
    } else {
      wanted.push_back(argument);
    }
  }
  int passed = 0, failed = 0;
  for (const kernel_test::Test& test : kernel_test::Tests()) {
    if (ContainsOneOf(test.name, unwanted) || (!wanted.empty() && !ContainsOneOf(test.name, wanted))) continue;
    const auto start = std::chrono::steady_clock::now();
    try {
      RunInOrders(test, orders);
      passed++;
      const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
      printf("ok %s (%.0f ms; error %.2f of what is allowed)\n", test.name, took.count(), kernel_test::run.worst);
    } catch (const std::exception& error) {
      failed++;
      printf("FAILED %s: %s\n", test.name, error.what());
    }
    fflush(stdout);
  }
  // What is destroyed at the end of the program is no access of a kernel's thread.
  emulation::thread = nullptr;
  printf("kernel tests: %d passed, %d failed\n", passed, failed);
  return failed > 0 || passed == 0 ? 1 : 0;
}
