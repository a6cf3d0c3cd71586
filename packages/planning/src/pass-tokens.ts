import type { MachineProfile } from '@lorasmith/contracts';

/** Tokens of a pass that several jobs share on a processor, and on a machine that was not measured. A longer pass is hardly faster there. */
export const SHARED_PASS_TOKENS = 1024;
/** A longer pass is hardly faster on any card: weights are read in less than 2 % of its time. */
const MOST_TOKENS = 16_384;
const TOKENS_STEP = 1024;
/** The most seconds of the frozen products of a model of 8 · 10⁹ parameters: a cancel, and an answer that is being generated, wait for a pass. */
const LONGEST_PASS_SECONDS = 1;
const LARGE_MODEL_PARAMETERS = 8e9;
/** Products take so many times as long as reading their weights in bfloat16. */
const READINGS_HIDDEN = 20;
/** Parameters of a layer of a model of 135 · 10⁶: its products take as long as calling its ops. */
const SMALL_LAYER_PARAMETERS = 3.5e6;
/** Operations of a frozen parameter for a token, forward and backward. */
const FROZEN_OPERATIONS = 4;

/**
 * The tokens of a pass that suit a machine: as many as its products need for their rate, beside the reading of weights and the calls of
 * ops, and no more than it computes in a second with a large model. They do not depend on the model: a worker has several.
 */
export function passTokensOf({ engine, rates }: Pick<MachineProfile, 'engine' | 'rates'>): number {
  if (engine.kind === 'cpu') return SHARED_PASS_TOKENS;
  const { matmul_gflops: gigaflops, weight_gbytes, layer_overhead_ms } = rates.bfloat16 ?? rates.float32;
  // A parameter has two bytes, and two operations for a token.
  const besideReading = READINGS_HIDDEN * (gigaflops / weight_gbytes);
  const besideCalls = ((layer_overhead_ms / 1e3) * gigaflops * 1e9) / (FROZEN_OPERATIONS * SMALL_LAYER_PARAMETERS);
  const inTime = (LONGEST_PASS_SECONDS * gigaflops * 1e9) / (FROZEN_OPERATIONS * LARGE_MODEL_PARAMETERS);
  const tokens = Math.min(Math.max(besideReading, besideCalls), inTime, MOST_TOKENS);
  return Math.max(SHARED_PASS_TOKENS, Math.floor(tokens / TOKENS_STEP) * TOKENS_STEP);
}
