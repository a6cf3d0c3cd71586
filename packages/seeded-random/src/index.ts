export { type Permutation, seededPermutation } from './permutation.js';
export { SeededRandom } from './seeded-random.js';
