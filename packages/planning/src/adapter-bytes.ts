import type { JobSpec } from '@lorasmith/contracts';
import { numbersPerRank, type Target } from './target-ranks.js';

const BYTES_PER_NUMBER = 4;
/** Bytes of the manifest and the model card: up to 1,000 losses, evaluations, checks, the probe, digests. */
const MANIFEST_BYTES = 64 * 1024;
/** Bytes of the manifest and the header of the weights: names and shapes of a layer. */
const BYTES_PER_LAYER = 640;

/** The most that a published adapter takes: in its files lower ranks are padded with zeros to the largest. */
export function adapterBytes(spec: JobSpec, targets: readonly Target[]): number {
  const rank = targets.reduce((most, layer) => Math.max(most, layer.rank), 0);
  const sizes = targets.reduce((sum, layer) => sum + numbersPerRank(layer), 0);
  const beside = MANIFEST_BYTES + BYTES_PER_LAYER * targets.length + 3 * JSON.stringify(spec).length;
  return BYTES_PER_NUMBER * rank * sizes + beside;
}
