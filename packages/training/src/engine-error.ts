import { ProductError } from '@lorasmith/contracts';
import { engine } from '@lorasmith/tensor';

/** How TensorFlow, its allocator for a GPU, the driver and V8 word that an allocation failed. */
const OUT_OF_MEMORY =
  /OOM when allocating|RESOURCE_EXHAUSTED|failed to allocate memory|CUDA_ERROR_OUT_OF_MEMORY|Array buffer allocation failed/i;

const GENERAL_ADVICE = 'Use a smaller batch_size (with more gradient_accumulation_steps) or a smaller max_seq_length.';

/**
 * The true cause of an error in a run. Once the card has failed, it is why anything else fails, whatever that says; and memory
 * that ran out becomes a ProductError with what to change.
 *
 * @param advice a sentence; null: the general one
 */
export function engineError(error: unknown, advice: string | null = null): unknown {
  const failure = cardFailure();
  if (failure !== null) return new Error(failure, { cause: error });
  if (error instanceof ProductError || !isOutOfMemory(error)) return error;
  const where =
    engine.device === 'gpu' ? 'The memory of the GPU ran out.' : 'The engine could not get the memory it needs.';
  return new ProductError('out_of_memory', `${where} ${advice ?? GENERAL_ADVICE}`, { cause: error });
}

/** Whether an error of the engine says that it could not get memory. */
export function isOutOfMemory(error: unknown): boolean {
  return OUT_OF_MEMORY.test(error instanceof Error ? error.message : String(error));
}

/** Why this process can no longer compute on its card; null while it can, and without a card. */
export function cardFailure(): string | null {
  return engine.cuda?.failure() ?? null;
}
