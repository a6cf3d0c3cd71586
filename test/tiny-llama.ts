// The implementation is JavaScript because the benchmarks use it, too.
export { writeTinyLlama } from './tiny-llama.mjs';
