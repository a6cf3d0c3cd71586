import { engine } from './binding.js';

/**
 * Allocates exactly the bytes of what `make` makes on a card: for tensors that stay, such as weights. Others are rounded up to a class of
 * sizes, so that what they free fits later ones (see CudaEngine.allocateExactly).
 */
export function exactly<Result>(make: () => Result): Result {
  const { cuda } = engine;
  if (cuda === null) return make();
  cuda.allocateExactly(true);
  try {
    return make();
  } finally {
    cuda.allocateExactly(false);
  }
}
