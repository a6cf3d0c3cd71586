import { parseArgs } from 'node:util';
import { chooseKernels } from '@lorasmith/tensor';
import { checkFolder } from './check-reference/check-folder.js';
import { type Comparison, isWithin } from './check-reference/comparison.js';

const USAGE = `check-reference FOLDER… [--precision float32|bfloat16] [--kernels fused|raw] [--avoid NAMES]

Computes what PyTorch and PEFT computed for each folder (logits, loss, gradients, AdamW steps, the trained adapter,
merged weights and logits) and prints the largest error of each part. Exits 1 if an error exceeds its tolerance.
--kernels raw uses TensorFlow's own ops instead of the fused ones, --avoid instead of these, such as rmsNorm:bfloat16,lora:float32.`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      precision: { type: 'string', default: 'float32' },
      kernels: { type: 'string', default: 'fused' },
      avoid: { type: 'string', default: '' },
      help: { type: 'boolean' },
    },
  });
  const { precision, kernels: source } = values;
  const isKnown = (precision === 'float32' || precision === 'bfloat16') && (source === 'fused' || source === 'raw');
  if (values.help || positionals.length === 0 || !isKnown) {
    console.error(USAGE);
    return values.help ? 0 : 2;
  }
  const avoid = values.avoid.split(',').filter((name) => name !== '');
  const kernels = chooseKernels(source, { avoid });
  let beyond = 0;
  for (const folder of positionals) {
    console.log(
      `${folder} (${precision}, kernels: ${kernels.library}${avoid.length > 0 ? ` without ${avoid.join(', ')}` : ''})`,
    );
    try {
      const comparisons = await checkFolder(folder, precision, kernels);
      for (const comparison of comparisons) console.log(line(comparison));
      beyond += comparisons.filter((comparison) => !isWithin(comparison)).length;
    } catch (error) {
      console.log(`  FAILED  ${error instanceof Error ? error.message : String(error)}`);
      beyond += 1;
    }
  }
  console.log(beyond === 0 ? 'All parts are within their tolerances.' : `${beyond} parts are beyond their tolerance.`);
  return beyond === 0 ? 0 : 1;
}

function line(comparison: Comparison): string {
  const { part, error, measure, tolerance } = comparison;
  const verdict = isWithin(comparison) ? 'ok    ' : 'BEYOND';
  return `  ${verdict}  ${part.padEnd(60)} ${error.toExponential(1)}  (at most ${tolerance.toExponential(1)}, ${measure})`;
}

process.exitCode = await main();
