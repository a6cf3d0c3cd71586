/** Cards and drivers that fail, with the worker's own fixtures. It belongs to the fault suite: it takes minutes. */
export const LOST_CARDS = 'services/worker/test/emulated-gpu.test.ts';
