// Plain JavaScript, since the benchmarks use it, too.
export { writeTinyLlama } from './tiny-llama.mjs';
