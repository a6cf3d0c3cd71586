import type { FloatDType } from '../dtype.js';
import type { DeltaInputs, DeltaSettings } from '../kernels/gated-delta.js';
import { tokenRows } from '../kernels/token-rows.js';
import { split } from '../layout.js';
import { type CaseSizes, kernelSubject, type NumericCase } from './numeric-case.js';
import { seededTensor } from './seeded-inputs.js';
import { ATTENTION, SUM } from './tolerances.js';

/** The ops of linear attention, in every dtype. */
export function linearAttentionCases(sizes: CaseSizes): NumericCase[] {
  return (['float32', 'bfloat16'] as const).flatMap((dtype) => [
    ...convolutionCases(dtype),
    ...gatedDeltaCases(dtype, sizes),
  ]);
}

/** Rows shorter than the filter, and channels that no vector load divides. */
function convolutionCases(dtype: FloatDType): NumericCase[] {
  const lengths = [1, 9, 3];
  const tokens = 13;
  const channels = 67;
  const x = () => seededTensor([tokens, channels], 50, dtype);
  const weight = () => seededTensor([channels, 4], 51);
  return [
    {
      name: `causalConvolution ${dtype}`,
      subject: kernelSubject('causalConvolution', dtype),
      tolerance: SUM[dtype],
      compute: (kernels) => {
        const { causalConvolution } = kernels.of(dtype);
        const before = seededTensor([lengths.length, 3, channels], 52, dtype);
        return {
          output: causalConvolution(x(), weight(), tokenRows(lengths), null),
          continued: causalConvolution(x(), weight(), tokenRows(lengths), before),
        };
      },
    },
    {
      name: `causalConvolutionGradient ${dtype}`,
      subject: kernelSubject('causalConvolutionGradient', dtype),
      tolerance: SUM[dtype],
      compute: (kernels) => {
        const gradient = seededTensor([tokens, channels], 53, dtype);
        const { causalConvolutionGradient } = kernels.of(dtype);
        return { result: causalConvolutionGradient(gradient, x(), weight(), tokenRows(lengths)) };
      },
    },
  ];
}

interface DeltaShape extends DeltaSettings {
  lengths: readonly number[];
}

/** Two value heads to a key head; sizes that no vector load divides, and those of released models. */
function gatedDeltaCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  const small: DeltaShape = { keyHeads: 2, valueHeads: 4, keySize: 12, valueSize: 21, lengths: [65, 1, 3] };
  const large: DeltaShape = { keyHeads: 2, valueHeads: 4, keySize: 128, valueSize: 128, lengths: [130, 64] };
  return (sizes === 'small' ? [small] : [small, large]).map(({ lengths, ...settings }) => {
    const { keyHeads, valueHeads, keySize, valueSize } = settings;
    const tokens = lengths.reduce((sum, length) => sum + length, 0);
    return {
      name: `gatedDelta ${dtype}, heads of ${keySize} by ${valueSize}`,
      subject: kernelSubject('gatedDelta', dtype),
      tolerance: ATTENTION[dtype],
      compute: (kernels) => {
        const inputs: DeltaInputs = {
          qkv: seededTensor([tokens, 2 * keyHeads * keySize + valueHeads * valueSize], 54, dtype),
          ba: seededTensor([tokens, 2 * valueHeads], 55, dtype),
          aLog: seededTensor([valueHeads], 56),
          dtBias: seededTensor([valueHeads], 57),
          rows: tokenRows(lengths),
        };
        const { gatedDelta } = kernels.of(dtype);
        const before = seededTensor([lengths.length, valueHeads, keySize, valueSize], 58);
        const continued = gatedDelta.forward(inputs, settings, { before, record: false, keepLast: true });
        const { output, kept } = gatedDelta.forward(inputs, settings, { before: null, record: true, keepLast: false });
        const gradient = seededTensor([tokens, valueHeads * valueSize], 59, dtype);
        const { byQkv, byBa } = gatedDelta.backward(gradient, inputs, kept!, settings);
        const widths = [keyHeads * keySize, keyHeads * keySize, valueHeads * valueSize];
        const [byQuery, byKey, byValue] = split(byQkv, widths, 1);
        const [byB, byA] = split(byBa, [valueHeads, valueHeads], 1);
        const gradients = { byQuery: byQuery!, byKey: byKey!, byValue: byValue!, byB: byB!, byA: byA! };
        return { output, ...gradients, continued: continued.output, last: continued.last! };
      },
    };
  });
}
