export { type Permutation, SeededRandom, seededPermutation } from './seeded-random.js';
