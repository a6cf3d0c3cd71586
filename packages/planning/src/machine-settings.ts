import {
  type EngineKind,
  type MachineProfile,
  ProductError,
  type Report,
  type TrainingSettings,
} from '@lorasmith/contracts';
import { type DecoderArchitecture, headsOf, type ModelFolder } from '@lorasmith/model-folder';
import { mixerWithoutKernels } from './estimate/layer-kinds/mixer-estimates.js';

type Precision = 'float32' | 'bfloat16';

export type ChosenPrecision = Report['precision'] & { chosen: Precision };

/** The factor by which bfloat16 must be faster for `auto`. A rate is measured a third too low at times, where other programs run; weights in float32 compute what PEFT does. */
const CLEARLY_FASTER = 1.25;

/**
 * The precision that the job sets; `auto` chooses bfloat16 where matrix products are clearly faster in it.
 * @param rateOf GFLOP/s of matrix products, null where the machine has none in this type; called only where it decides
 */
export function choosePrecision(
  setting: TrainingSettings['precision'],
  family: string,
  rateOf: (precision: Precision) => number | null,
): ChosenPrecision {
  if (setting === 'bfloat16' && rateOf('bfloat16') === null) {
    return { chosen: 'float32', reason: `The job sets bfloat16, but ${NO_BFLOAT16}.` };
  }
  if (setting !== 'auto') return { chosen: setting, reason: 'The job sets it.' };
  if (family === 'classifier')
    return { chosen: 'float32', reason: 'Classifiers are small, so float32 is fast enough.' };
  const bfloat16 = rateOf('bfloat16');
  if (bfloat16 === null) return { chosen: 'float32', reason: `${upperFirst(NO_BFLOAT16)}.` };
  const float32 = rateOf('float32') ?? 0;
  const measured = `matrix products run at ${Math.round(bfloat16)} GFLOP/s in bfloat16 and ${Math.round(float32)} in float32 on the machine that trains`;
  return bfloat16 > CLEARLY_FASTER * float32
    ? { chosen: 'bfloat16', reason: `Faster: ${measured}.` }
    : { chosen: 'float32', reason: `bfloat16 is not clearly faster: ${measured}.` };
}

const NO_BFLOAT16 = 'the GPU of the machine that trains has no bfloat16 (compute capability 8.0 or later has)';

const upperFirst = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** The precision on this machine. */
export function precisionOn(
  { rates }: MachineProfile,
  setting: TrainingSettings['precision'],
  family: string,
): ChosenPrecision {
  return choosePrecision(setting, family, (precision) => rates[precision]?.matmul_gflops ?? null);
}

/** {@link precisionOn}, as far as it is known when no machine was measured. */
export function knownPrecision(
  setting: TrainingSettings['precision'],
  family: string,
  machine: MachineProfile | null,
): Report['precision'] {
  if (machine !== null) return precisionOn(machine, setting, family);
  if (setting === 'auto' && family !== 'classifier') {
    return { chosen: null, reason: 'The worker measures which is faster on its machine.' };
  }
  return choosePrecision(setting, family, () => 0);
}

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
 * The tokens of a pass that suit a machine: as many as its products need for their rate, while weights are read and ops are called, and no more than it computes in a second with a large model. They do not depend on the model: a worker has several.
 */
export function passTokensOf({ engine, rates }: Pick<MachineProfile, 'engine' | 'rates'>): number {
  if (engine.kind === 'cpu') return SHARED_PASS_TOKENS;
  const { matmul_gflops: gigaflops, weight_gbytes, layer_overhead_ms } = rates.bfloat16 ?? rates.float32;
  // A parameter has two bytes, and two operations for a token.
  const whileReading = READINGS_HIDDEN * (gigaflops / weight_gbytes);
  const whileCalling = ((layer_overhead_ms / 1e3) * gigaflops * 1e9) / (FROZEN_OPERATIONS * SMALL_LAYER_PARAMETERS);
  const inTime = (LONGEST_PASS_SECONDS * gigaflops * 1e9) / (FROZEN_OPERATIONS * LARGE_MODEL_PARAMETERS);
  const tokens = Math.min(Math.max(whileReading, whileCalling), inTime, MOST_TOKENS);
  return Math.max(SHARED_PASS_TOKENS, Math.floor(tokens / TOKENS_STEP) * TOKENS_STEP);
}

/**
 * The widest heads of attention: on the CUDA engine those of its kernels (GREATEST_HEAD_DIM of packages/tensor), in TensorFlow's
 * own ops those whose memory the estimate is compared with.
 */
const GREATEST_HEAD_DIM = { cuda: 512, tensorflow: 256 } as const;

/**
 * Checks that an engine has kernels for all parts of a model. Without them it would compute the right numbers, but too slowly to
 * be of use.
 *
 * @throws ProductError model_not_supported
 */
export function checkEngineSupports(
  engine: EngineKind,
  { name, architecture }: Pick<ModelFolder, 'name' | 'architecture'>,
): void {
  if (engine === 'cpu' || architecture.kind !== 'decoder') return;
  const part = partWithoutKernels(engine, architecture);
  if (part === null) return;
  const message =
    `The engine ${engine} has no kernels for ${part} of ${name} (${architecture.family}). ` +
    'Processors have: run a worker with ENGINE=cpu.';
  throw new ProductError('model_not_supported', message, { param: 'base_model' });
}

/** The part of a model that an engine for GPUs has no kernels for; null: it has them for all. */
function partWithoutKernels(engine: 'cuda' | 'tensorflow', architecture: DecoderArchitecture): string | null {
  const part = mixerWithoutKernels(architecture, engine);
  if (part !== null) return part;
  const sizes = architecture.layers.map((_, layer) => headsOf(architecture, layer).headDim);
  const largest = Math.max(...sizes);
  return largest > GREATEST_HEAD_DIM[engine] ? `the attention with heads of ${largest} numbers` : null;
}
