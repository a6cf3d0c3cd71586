import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { LoraSettings } from '@lorasmith/contracts';
import { type DecoderArchitecture, readModelFolder } from '@lorasmith/model-folder';
import { Value } from 'typebox/value';
import { describe, expect, it } from 'vitest';
import { chooseTargets, type TargetSelection } from './choose-targets.js';

/** A model of every family; families.test.ts of model-folder holds that none is missing. */
const CASES = join(import.meta.dirname, '../../../test/fixtures/families');

const layer = (name: string) => ({ name, in_features: 4, out_features: 4 });
const modules = [0, 1, 10].flatMap((index) =>
  ['self_attn.q_proj', 'self_attn.v_proj', 'mlp.down_proj'].map((name) => layer(`model.layers.${index}.${name}`)),
);
const headModule = layer('lm_head');

const only = (
  target_modules: string | string[],
  rest: Partial<Omit<TargetSelection, 'target_modules'>> = {},
): TargetSelection => ({ target_modules, exclude_modules: null, layers_to_transform: null, ...rest });
const choose = (targets: string | string[], rest: Parameters<typeof only>[1] = {}) =>
  chooseTargets({ modules, parameters: [], headModule }, only(targets, rest)).map(({ name }) => name);
const refusal = (targets: string | string[], rest: Parameters<typeof only>[1] = {}) => {
  try {
    choose(targets, rest);
  } catch (error) {
    return error;
  }
  throw new Error('was not refused');
};

describe('chooseTargets', () => {
  it('takes suffixes that begin at a dot, in the order of the model, each layer once', () => {
    expect(choose(['v_proj', 'q_proj', 'self_attn.q_proj'])).toEqual([
      'model.layers.0.self_attn.q_proj',
      'model.layers.0.self_attn.v_proj',
      'model.layers.1.self_attn.q_proj',
      'model.layers.1.self_attn.v_proj',
      'model.layers.10.self_attn.q_proj',
      'model.layers.10.self_attn.v_proj',
    ]);
    expect(choose(['0.mlp.down_proj'])).toEqual(['model.layers.0.mlp.down_proj']);
    expect(choose(['model.layers.1.mlp.down_proj'])).toEqual(['model.layers.1.mlp.down_proj']);
  });

  it('takes every linear layer but the head', () => {
    expect(choose('all-linear')).toHaveLength(9);
    expect(choose('All-Linear')).toHaveLength(9);
    expect(choose(['all-linear'])).toHaveLength(9);
    expect(refusal(['q_proj', 'all-linear'])).toMatchObject({
      details: [{ param: 'lora.target_modules.1', message: expect.stringContaining('stands alone') }],
    });
  });

  it('takes every linear layer of a decoder for a job that names none, in each family', async () => {
    for (const name of await readdir(CASES)) {
      const model = await readModelFolder(join(CASES, name, 'base'));
      const selection = Value.Default(LoraSettings, {}) as LoraSettings;
      const ofLayers = [...model.linears.keys()].filter((path) => path !== model.headModule?.name);
      const chosen = chooseTargets(model, selection).map(({ name: path }) => path);
      expect(chosen, name).toEqual(ofLayers);
      // Gemma 4 has a linear layer before its blocks.
      const blocks = new Set(chosen.flatMap((path) => /\.(\d+)\./.exec(path)?.[1] ?? []));
      expect(blocks, name).toHaveLength((model.architecture as DecoderArchitecture).layerCount);
    }
  });

  it('takes a regular expression that matches the whole name', () => {
    expect(choose(String.raw`model\.layers\.1\..*_proj`)).toHaveLength(3);
    expect(choose('.*[qv]_proj')).toHaveLength(6);
    expect(choose(String.raw`.*\.(0|10)\.mlp\.(up|down)_proj`)).toHaveLength(2);
  });

  it('names what there is for each entry that matches nothing', () => {
    expect(refusal(['q_proj', 'proj', 'k_proj'])).toMatchObject({
      code: 'unmatched_target',
      details: [
        { code: 'unmatched_target', param: 'lora.target_modules.1' },
        { param: 'lora.target_modules.2', message: expect.stringContaining('q_proj, v_proj, down_proj') },
      ],
    });
    // PEFT takes a string for an expression, so the end of a name alone matches nothing.
    expect(refusal('q_proj')).toMatchObject({ code: 'unmatched_target', param: 'lora.target_modules' });
  });

  it('takes the output head, last, where a name or an expression selects it', () => {
    expect(choose(['lm_head'])).toEqual(['lm_head']);
    expect(choose(['lm_head', '0.self_attn.q_proj'])).toEqual(['model.layers.0.self_attn.q_proj', 'lm_head']);
    expect(choose('.*').at(-1)).toBe('lm_head');
    expect(choose('.*')).toHaveLength(10);
    expect(choose('.*', { exclude_modules: ['lm_head'] })).toHaveLength(9);
  });

  it.each(['(', '(?=q)q_proj', String.raw`(q)\1`, '*'])('refuses the expression %s', (source) => {
    expect(refusal(source)).toMatchObject({ code: 'invalid_job', param: 'lora.target_modules' });
  });

  it('is not hung by an expression that backtracking engines choke on', () => {
    const name = `${'a'.repeat(5000)}b`;
    expect(() => chooseTargets({ modules: [layer(name)], parameters: [], headModule: null }, only('(a+)+'))).toThrow(
      /No layer/,
    );
  });

  it('takes the layers of a classifier by their numbers', () => {
    const classifier = { modules: [layer('0'), layer('2')], parameters: [], headModule: null };
    expect(chooseTargets(classifier, only(['2']))).toEqual([layer('2')]);
    expect(chooseTargets(classifier, only('all-linear'))).toEqual(classifier.modules);
  });
});

describe('exclude_modules', () => {
  it('takes a list of names or suffixes, or an expression for the whole name', () => {
    expect(choose(['q_proj', 'down_proj'], { exclude_modules: ['0.self_attn.q_proj', 'mlp.down_proj'] })).toEqual([
      'model.layers.1.self_attn.q_proj',
      'model.layers.10.self_attn.q_proj',
    ]);
    expect(choose(['q_proj'], { exclude_modules: String.raw`.*\.1\..*` })).toEqual([
      'model.layers.0.self_attn.q_proj',
      'model.layers.10.self_attn.q_proj',
    ]);
    expect(choose('.*', { exclude_modules: ['lm_head', 'down_proj'] })).toHaveLength(6);
    expect(choose('all-linear', { exclude_modules: ['lm_head'] })).toHaveLength(9);
  });

  it('must match something, and leave something', () => {
    expect(refusal(['q_proj'], { exclude_modules: ['down_proj', 'k_proj'] })).toMatchObject({
      code: 'unmatched_target',
      param: 'lora.exclude_modules.1',
      message: expect.stringContaining('q_proj, v_proj, down_proj, lm_head'),
    });
    expect(refusal(['q_proj'], { exclude_modules: 'q_proj' })).toMatchObject({ param: 'lora.exclude_modules' });
    expect(refusal(['q_proj'], { exclude_modules: ['q_proj'] })).toMatchObject({
      code: 'unmatched_target',
      param: 'lora.exclude_modules',
      message: expect.stringContaining('nothing to train'),
    });
    expect(refusal(['q_proj'], { exclude_modules: '(' })).toMatchObject({
      code: 'invalid_job',
      param: 'lora.exclude_modules',
    });
  });
});

describe('layers_to_transform', () => {
  it('takes the blocks with these numbers only', () => {
    expect(choose(['q_proj'], { layers_to_transform: [10, 1] })).toEqual([
      'model.layers.1.self_attn.q_proj',
      'model.layers.10.self_attn.q_proj',
    ]);
    expect(choose('all-linear', { layers_to_transform: [0] })).toHaveLength(3);
  });

  it('is not asked of a module named in full, as in PEFT', () => {
    const named = ['model.layers.0.mlp.down_proj', 'q_proj', 'lm_head'];
    expect(choose(named, { layers_to_transform: [1] })).toEqual([
      'model.layers.0.mlp.down_proj',
      'model.layers.1.self_attn.q_proj',
      'lm_head',
    ]);
  });

  it('names each block that is not there', () => {
    expect(refusal(['q_proj'], { layers_to_transform: [0, 2, 11] })).toMatchObject({
      code: 'unmatched_target',
      message: expect.stringContaining('There are: 0, 1, 10'),
      details: [{ param: 'lora.layers_to_transform.1' }, { param: 'lora.layers_to_transform.2' }],
    });
  });

  it('does not go with an expression, as in PEFT', () => {
    expect(refusal('.*q_proj', { layers_to_transform: [0] })).toMatchObject({
      code: 'invalid_job',
      param: 'lora.layers_to_transform',
    });
  });

  it('leaves nothing of a model without blocks', () => {
    const classifier = { modules: [layer('0'), layer('2')], parameters: [], headModule: null };
    const selection = only(['0'], { layers_to_transform: [0] });
    // '0' is the whole name, which is not asked for its block.
    expect(() => chooseTargets(classifier, selection)).toThrow('The model has none.');
  });
});

describe('target_parameters', () => {
  const parameters = [0, 1].flatMap((index) =>
    ['gate_up_proj', 'down_proj'].map((name) => ({
      ...layer(`model.layers.${index}.mlp.experts.${name}`),
      experts: 5,
    })),
  );
  const chosen = (targets: string | string[], rest: Parameters<typeof only>[1]) =>
    chooseTargets({ modules, parameters, headModule }, only(targets, rest)).map(({ name }) => name);
  const refused = (targets: string | string[], rest: Parameters<typeof only>[1], fault: object) =>
    expect(() => chosen(targets, rest)).toThrow(expect.objectContaining(fault));

  it('selects parameters by suffixes that begin at a dot, behind the layers, in the order of the model', () => {
    const target_parameters = ['mlp.experts.down_proj', 'model.layers.1.mlp.experts.gate_up_proj'];
    const names = [parameters[1], parameters[2], parameters[3]].map((parameter) => parameter!.name);
    expect(chosen(['1.self_attn.v_proj'], { target_parameters })).toEqual([
      'model.layers.1.self_attn.v_proj',
      ...names,
    ]);
    expect(chosen([], { target_parameters })).toEqual(names);
    expect(chosen([], { target_parameters: ['down_proj'] })).toEqual([parameters[1]!.name, parameters[3]!.name]);
  });

  it('is not limited by exclude_modules and layers_to_transform, as in PEFT', () => {
    const rest = {
      target_parameters: ['mlp.experts.down_proj'],
      exclude_modules: ['down_proj'],
      layers_to_transform: [0],
    };
    expect(chosen('all-linear', rest)).toEqual([
      'model.layers.0.self_attn.q_proj',
      'model.layers.0.self_attn.v_proj',
      parameters[1]!.name,
      parameters[3]!.name,
    ]);
  });

  it('is refused for what no parameter is named, and for a model without experts', () => {
    refused(
      [],
      { target_parameters: ['experts.down_proj', 'mlp.experts.w1', 'roj'] },
      {
        details: [
          { code: 'unmatched_target', param: 'lora.target_parameters.1' },
          { code: 'unmatched_target', param: 'lora.target_parameters.2' },
        ].map((fault) => expect.objectContaining(fault)),
        message: expect.stringContaining('There are: mlp.experts.down_proj, mlp.experts.gate_up_proj.'),
      },
    );
    expect(refusal('all-linear', { target_parameters: ['mlp.experts.down_proj'] })).toMatchObject({
      code: 'unmatched_target',
      param: 'lora.target_parameters',
      message: expect.stringContaining('has no experts'),
    });
  });

  it('is needed with an empty list of target_modules', () => {
    refused([], {}, { code: 'unmatched_target', param: 'lora.target_modules' });
  });
});
