import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ModelFolder, ModelTexts, readModelFolder } from '@lorasmith/model-folder';
import { type Decoder, LoraAdapter, loadDecoder } from '@lorasmith/models';
import type { PeftAdapter, PeftModule } from '@lorasmith/peft-files';
import { chooseKernels, type FloatDType, liveTensorCount, tensorOf } from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { writePublishedModel } from '../../../../test/published-models.js';
import { writeTinyLlama } from '../../../../test/tiny-llama.js';
import { usualCases } from '../../../../test/usual-cases.js';
import { PassScheduler } from '../shared-pass/pass-scheduler.js';
import { mergedLayers, RecordedAdapter } from './merged-model.js';
import { measuredBound, type ProbedAdapter } from './probe-comparison.js';
import { type ProbeOutputs, prepareProbe, rmsDifference, rmsSpread } from './probe-run.js';
import { roundingBound } from './rounding-bounds.js';
import { checkMerged } from './write-checked-adapter.js';

const kernels = chooseKernels('fused');

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'check-merged-'));
  // With its published epsilon, norms of the small numbers of random weights enlarge rounding errors, in each of 32 layers.
  await writePublishedModel('qwen3_5_text', join(root, 'amplifying'), { rms_norm_eps: 1e-6 });
  await writeTinyLlama(join(root, 'llama'));
});
afterAll(() => rm(root, { recursive: true }));

interface Trained {
  base: Decoder;
  model: ModelFolder;
  peft: PeftAdapter;
  recorded: RecordedAdapter;
  probed: ProbedAdapter;
  adapter: LoraAdapter;
}

/** An adapter with random numbers on all layers, and its results of the probe. */
async function trainedOn(name: string, dtype: FloatDType): Promise<Trained> {
  const model = await readModelFolder(join(root, name));
  const base = await loadDecoder(model, dtype, kernels);
  const targets = model.modules.map(({ name }) => ({ name, rank: 4, scale: 2 }));
  const adapter = new LoraAdapter(base.groups, { targets, dropout: 0, seed: 0 });
  const numbers = normalNumbers(adapter.parameterCount, 5).map((value) => 0.03 * value);
  adapter.setParameters(tensorOf(numbers, [numbers.length]));
  const probe = await prepareProbe(base, model, new ModelTexts());
  const { inEngineCall } = new PassScheduler().join();
  const alone = await probe.alone(inEngineCall);
  const recorded = new RecordedAdapter(adapter);
  const [adapted] = probe.run([recorded]) as [ProbeOutputs];
  const probed = { base, adapter, probe, alone, adapted, inEngineCall };
  return { base, model, peft: adapter.toPeft(null), recorded, probed, adapter };
}

function freed({ adapter, base }: Trained): void {
  adapter.dispose();
  base.dispose();
}

/** The bound of rounding in a model that does not amplify errors. */
function unamplified({ base, alone, adapted }: ProbedAdapter): number {
  const size = rmsSpread(alone.logits) + rmsDifference(alone.logprobs, adapted.logprobs);
  return roundingBound(base.architecture, [base.dtype, 'float32'], size);
}

const VICTIM = 'model.layers.1.mlp.down_proj';

/** B `[out, rank]` as if it were stored `[rank, out]`. */
function transposed({ b, rank, outFeatures, ...rest }: PeftModule): PeftModule {
  return { ...rest, rank, outFeatures, b: b.map((_, i) => b[(i % rank) * outFeatures + Math.floor(i / rank)]!) };
}

const ofVictim = (modules: PeftAdapter['modules'], change: (module: PeftModule) => PeftModule) =>
  new Map([...modules].map(([name, module]) => [name, name === VICTIM ? change(module) : module] as const));

/** Other modules than those that were trained. */
const WRONG: [string, (modules: PeftAdapter['modules']) => Map<string, PeftModule>][] = [
  [
    'all scales a hundredth too large',
    (modules) =>
      new Map([...modules].map(([name, module]) => [name, { ...module, scale: 1.01 * module.scale }] as const)),
  ],
  ['one scale a hundredth too large', (modules) => ofVictim(modules, (own) => ({ ...own, scale: 1.01 * own.scale }))],
  ['one layer left out', (modules) => new Map([...modules].filter(([name]) => name !== VICTIM))],
  ['one B transposed', (modules) => ofVictim(modules, transposed)],
];

describe.each(usualCases(['float32', 'bfloat16'] as const, 1))(
  'a model that amplifies rounding errors, in %s',
  (dtype) => {
    let trained: Trained;
    beforeAll(async () => {
      trained = await trainedOn('amplifying', dtype);
    });
    afterAll(() => freed(trained));

    test('passes when it is merged, beyond what rounding makes of others', async () => {
      const { probed, recorded, peft, model } = trained;
      const { difference, bound } = await checkMerged(probed, recorded, mergedLayers(peft, model));
      expect(difference).toBeGreaterThan(unamplified(probed));
      expect(difference).toBeLessThan(bound);
      // The same errors are drawn each time.
      expect(await measuredBound(probed, ['float32'])).toBe(bound);
    });

    // A hundredth of an update is within the rounding of bfloat16 in any model.
    test.each(dtype === 'float32' ? WRONG : WRONG.slice(2))(
      'is refused when it is merged with %s',
      async (_, spoil) => {
        const { base, probed, recorded, peft, model } = trained;
        const initial = { ...peft, modules: spoil(peft.modules) };
        const refused = checkMerged(probed, recorded, mergedLayers(initial, model));
        await expect(refused).rejects.toMatchObject({ code: 'adapter_check_failed' });
        if (dtype === 'bfloat16') return;
        // Log-probabilities alone would show it: a wrong merge is amplified, too.
        const targets = [...initial.modules].map(([name, { rank, scale }]) => ({ name, rank, scale }));
        const wrong = new LoraAdapter(base.groups, { targets, dropout: 0, seed: 0, initial });
        const [outputs] = probed.probe.run([wrong]) as [ProbeOutputs];
        wrong.dispose();
        const difference = rmsDifference(outputs.logprobs, probed.adapted.logprobs);
        expect(difference / (await measuredBound(probed, ['float32']))).toBeGreaterThan(10);
      },
    );
  },
);

test.each(usualCases(['float32', 'bfloat16'] as const, 1))(
  'the measured bound holds where it is not needed, in %s',
  async (dtype) => {
    const trained = await trainedOn('llama', dtype);
    const { probed, recorded, peft, model } = trained;
    const before = liveTensorCount();
    const { difference, bound } = await checkMerged(probed, recorded, mergedLayers(peft, model));
    expect(difference).toBeLessThan(bound);
    expect(await measuredBound(probed, ['float32'])).toBeGreaterThan(difference);
    expect(liveTensorCount()).toBe(before);
    freed(trained);
  },
);
