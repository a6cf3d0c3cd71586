// gzip, decompressed with the zlib that Node exports to addons (https://nodejs.org/api/addons.html), so that nothing is
// linked and no header of zlib is needed.
#pragma once

#include <string>
#include <vector>

namespace lorasmith::cuda {

// The content of one gzip file, of at most `most_bytes`. Empty on success, else what is wrong with it.
std::string Decompress(const std::vector<char>& file, size_t most_bytes, std::vector<char>* content);

}  // namespace lorasmith::cuda
