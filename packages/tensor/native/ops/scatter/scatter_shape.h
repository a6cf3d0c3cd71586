// The launch that links the updates of each row: scatter.cu.
#pragma once

// As many whatever is scattered: each warp goes through all indices, so that a number of warps that grows with the rows
// would make a square of it.
constexpr int kScatterBlocks = 128;
constexpr int kScatterThreads = 128;
