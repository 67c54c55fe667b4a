// omp_team.h: for adapters, how many threads an author's OpenMP regions get.
#pragma once

#include <omp.h>

namespace adapters {

// n threads while it lives.
class Team {
  public:
    explicit Team(int n) : before_(omp_get_max_threads()) { omp_set_num_threads(n); }
    ~Team() { omp_set_num_threads(before_); }

  private:
    int before_;
};

} // namespace adapters
