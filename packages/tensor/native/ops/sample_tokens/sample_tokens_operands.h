// Inputs and outputs of the choice of tokens, on every device.
#pragma once

#include "cpu/kernel.h"
#include "ops/sample_tokens/token_draw.h"

namespace lorasmith {

// logits [n, vocab], choices: n × TokenChoice, then the lists of penalties and the masks that these name →
// results [n, kResultWords + 2 · top]
template <typename Number>
struct SampleTokensOperands {
  SampleTokensOperands(Context& context, int64_t top)
      : rows(context.Dim(0, 0)), vocab(context.Dim(0, 1)), words(context.Size(1)) {
    logits = context.Input<Number>(0);
    choices = context.Input<int32_t>(1);
    if (!context.Check(vocab > 0 && vocab <= kMostTokens, "a vocabulary has 1 to 4194304 tokens")) return;
    if (!context.Check(words >= rows * kChoiceWords, "one choice for each row of logits is needed")) return;
    results = context.Output<int32_t>(0, {rows, kResultWords + 2 * top});
  }

  int64_t rows;
  int64_t vocab;
  int64_t words;
  const Number* logits;
  const int32_t* choices;
  int32_t* results = nullptr;
};

}  // namespace lorasmith
