// A page of the cache for generation, on every device. How the numbers of a page lie is the device's own business.
#pragma once

#include "cuda/kernels/portable.h"

// Tokens of a page.
constexpr int kPageTokens = 32;

// Numbers of a head that a page has for each token: more than the head's own are zeros.
HOST_DEVICE constexpr int PageColumns(int head_dim) { return (head_dim + 31) / 32 * 32; }
