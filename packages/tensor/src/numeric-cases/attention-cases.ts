import type { FloatDType } from '../dtype.js';
import type { AttentionSettings } from '../kernels/attention.js';
import type { Kernels } from '../kernels/kernels.js';
import type { RotaryAngles } from '../kernels/rotary.js';
import { split } from '../layout.js';
import type { Tensor } from '../tensor.js';
import { tensorOf } from '../transfer.js';
import { byPosition, positionsIn } from './by-position.js';
import { type CaseSizes, kernelSubject, type NumericCase, type TestCase, testCase } from './numeric-case.js';
import { seededTensor, spreadTensor } from './seeded-inputs.js';
import { ATTENTION, FUSED_AND_PLAIN } from './tolerances.js';

const THETA = 10_000;

interface AttentionShape {
  name: string;
  heads: number;
  keyValueHeads: number;
  lengths: number[];
  window?: number;
  softcap?: number;
  /** True if each head has a sink. */
  hasSinks?: boolean;
}

/**
 * Rows that end within a tile, at its end and after it; each a length of its own, so that no row hides another's offset. The largest heads
 * have shorter rows: the tolerance is for some tens of thousands of numbers.
 */
function attentionShapes(headDim: number, sizes: CaseSizes): AttentionShape[] {
  const small: AttentionShape[] = [
    { name: 'two heads to a key', heads: 2, keyValueHeads: 1, lengths: [headDim > 256 ? 33 : 65, 7, 1] },
    { name: 'window and soft cap', heads: 1, keyValueHeads: 1, lengths: [33, 64], window: 9, softcap: 4 },
    { name: 'sinks and a window', heads: 2, keyValueHeads: 1, lengths: [33, 3], window: 20, hasSinks: true },
  ];
  if (sizes === 'small') return small;
  return [
    ...small,
    { name: 'a key to each head', heads: 3, keyValueHeads: 3, lengths: [1, 63, 64, 65, 127, 128, 129] },
    { name: 'a long row', heads: 8, keyValueHeads: 2, lengths: [1_000, 24] },
    { name: 'a long row with a window', heads: 4, keyValueHeads: 1, lengths: [700], window: 256 },
  ];
}

/** A case of attention over rows, which another implementation than that in use can compute, too. */
export interface AttentionCase extends NumericCase {
  computeWith(batchAttention: Kernels['batchAttention']): Readonly<Record<string, Tensor>>;
}

/** The output and its gradients by queries, keys and values, each by position. */
export function attentionCases(dtype: FloatDType, headDim: number, sizes: CaseSizes): AttentionCase[] {
  return attentionShapes(headDim, sizes).map((shape) => {
    const { heads, keyValueHeads, lengths, window = null, softcap = null, hasSinks = false } = shape;
    const settings: AttentionSettings = {
      ...{ heads, keyValueHeads, headDim, window, softcap },
      scale: 1 / Math.sqrt(headDim),
    };
    const positions = positionsIn(lengths);
    const tokens = positions.length;
    const computeWith = (batchAttention: Kernels['batchAttention']) => {
      const angles = anglesAt([...Array(Math.max(...lengths)).keys()], headDim);
      const attention = batchAttention({ lengths, heads, angles, windows: [window] });
      const qkv = seededTensor([tokens, (heads + 2 * keyValueHeads) * headDim], 10, dtype);
      const own = hasSinks ? { ...settings, sinks: seededTensor([heads], 12) } : settings;
      const { output, saved } = attention.forward(qkv, own, true);
      const byOutput = seededTensor([tokens, heads * headDim], 11, dtype);
      const gradient = attention.backward(byOutput, saved!, own);
      const widths = [heads, keyValueHeads, keyValueHeads].map((count) => count * headDim);
      const [byQuery, byKey, byValue] = split(gradient, widths, 1);
      return {
        ...byPosition('output', output, positions),
        ...byPosition('gradient by queries', byQuery!, positions),
        ...byPosition('gradient by keys', byKey!, positions),
        ...byPosition('gradient by values', byValue!, positions),
      };
    };
    return {
      name: `attention ${dtype}, head size ${headDim}, ${shape.name}`,
      subject: kernelSubject('batchAttention', dtype, headDim),
      tolerance: { ...ATTENTION[dtype], rowSize: headDim },
      compute: (kernels) => computeWith(kernels.of(dtype).batchAttention),
      computeWith,
    };
  });
}

/** The angles of tokens at these positions (arXiv:2104.09864). */
export function anglesAt(positions: readonly number[], headDim: number): RotaryAngles {
  const half = headDim / 2;
  const size = positions.length * half;
  const [cosine, sine] = [new Float32Array(size), new Float32Array(size)];
  for (let i = 0; i < size; i++) {
    const angle = positions[Math.floor(i / half)]! * THETA ** -((i % half) / half);
    cosine[i] = Math.cos(angle);
    sine[i] = Math.sin(angle);
  }
  return { cosine: tensorOf(cosine, [positions.length, half]), sine: tensorOf(sine, [positions.length, half]) };
}

/** Heads, and what attention does beside: of tests. */
export interface TestedAttention extends Omit<AttentionSettings, 'scale' | 'sinks'> {
  hasSinks: boolean;
}

const KINDS: readonly Pick<TestedAttention, 'window' | 'softcap' | 'hasSinks'>[] = [
  { window: null, softcap: null, hasSinks: false },
  { window: 5, softcap: null, hasSinks: true },
  { window: null, softcap: 2, hasSinks: false },
  { window: null, softcap: null, hasSinks: true },
  { window: 33, softcap: 1.5, hasSinks: true },
];

/** Each kind with one head, with grouped queries and with wide heads. */
export const TESTED_ATTENTION: readonly { name: string; tested: TestedAttention }[] = [
  { name: 'one head', heads: 1, keyValueHeads: 1, headDim: 16 },
  { name: 'grouped queries', heads: 6, keyValueHeads: 2, headDim: 8 },
  { name: 'wide heads', heads: 4, keyValueHeads: 4, headDim: 80 },
].flatMap(({ name, ...heads }) =>
  KINDS.map((kind) => ({ name: `${name}, ${kindName(kind)}`, tested: { ...heads, ...kind } })),
);

function kindName({ window, softcap, hasSinks }: (typeof KINDS)[number]): string {
  return `window ${window ?? 'none'}, soft cap ${softcap ?? 'none'}, ${hasSinks ? 'sinks' : 'no sinks'}`;
}

/** Settings whose sinks are from a logit below the scores to one above them. */
export function settingsOf(
  { hasSinks, ...own }: TestedAttention,
  scale = 1 / Math.sqrt(own.headDim),
): AttentionSettings {
  const { heads } = own;
  const sinks = Float32Array.from({ length: heads }, (_, head) => (7 * (head + 1)) / heads - 2);
  return { ...own, scale, sinks: hasSinks ? tensorOf(sinks, [heads]) : undefined };
}

/** Rows of many lengths; and one that is longer than a block of keys, whose query heads are split over the threads. */
export function attentionTests(dtype: FloatDType): TestCase[] {
  const attend = (name: string, lengths: readonly number[], tested: TestedAttention, scale?: number) =>
    testCase(`attention ${dtype}, ${name}`, FUSED_AND_PLAIN[dtype], (kernels) => {
      const settings = settingsOf(tested, scale);
      const { heads, keyValueHeads, headDim, window } = settings;
      const tokens = lengths.reduce((sum, length) => sum + length, 0);
      const angles = anglesAt([...Array(Math.max(...lengths)).keys()], headDim);
      const attention = kernels.of(dtype).batchAttention({ lengths, heads, angles, windows: [window] });
      const qkv = spreadTensor([tokens, (heads + 2 * keyValueHeads) * headDim], 13, 2, dtype);
      const { output, saved } = attention.forward(qkv, settings, true);
      const gradient = spreadTensor([tokens, heads * headDim], 14, 1, dtype);
      return { output, gradient: attention.backward(gradient, saved!, settings) };
    });
  return [
    ...TESTED_ATTENTION.map(({ name, tested }) => attend(name, [70, 70, 41, 17, 1], tested)),
    ...KINDS.map((kind) =>
      attend(`one long row, ${kindName(kind)}`, [613], { heads: 6, keyValueHeads: 2, headDim: 8, ...kind }, 0.4),
    ),
  ];
}
