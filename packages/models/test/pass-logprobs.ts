import { scope, toFloat32Array } from '@lorasmith/tensor';
import type { Decoder } from '../src/decoder/decoder.js';
import type { ActingAdapter } from '../src/pass.js';

/** The log-probabilities of all tokens after each token of a text, `[tokens][vocab]`, from one pass over the whole text. */
export function passLogprobs(
  decoder: Pick<Decoder, 'logits' | 'architecture'>,
  ids: Int32Array,
  adapters: readonly ActingAdapter[] = [],
): number[][] {
  const logits = scope(() => toFloat32Array(decoder.logits({ ids, rowLengths: [ids.length] }, adapters)));
  const vocab = decoder.architecture.vocabSize;
  return Array.from(ids, (_, at) => {
    const row = [...logits.subarray(at * vocab, (at + 1) * vocab)];
    const greatest = Math.max(...row);
    const sum = row.reduce((total, logit) => total + Math.exp(logit - greatest), 0);
    return row.map((logit) => logit - greatest - Math.log(sum));
  });
}
