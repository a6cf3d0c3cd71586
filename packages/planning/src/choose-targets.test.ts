import { describe, expect, it } from 'vitest';
import { chooseTargets } from './choose-targets.js';

const layer = (name: string) => ({ name, in_features: 4, out_features: 4 });
const modules = [0, 1, 10].flatMap((index) =>
  ['self_attn.q_proj', 'self_attn.v_proj', 'mlp.down_proj'].map((name) => layer(`model.layers.${index}.${name}`)),
);
const headModule = layer('lm_head');

const choose = (targets: string | string[]) => chooseTargets(modules, targets, { headModule }).map(({ name }) => name);
const refusal = (targets: string | string[]) => {
  try {
    choose(targets);
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

  it('refuses the output head rather than leaving it out', () => {
    expect(refusal(['q_proj', 'lm_head'])).toMatchObject({ details: [{ param: 'lora.target_modules.1' }] });
    expect(refusal('.*')).toMatchObject({ code: 'unmatched_target', message: expect.stringContaining('output head') });
  });

  it.each(['(', '(?=q)q_proj', String.raw`(q)\1`, '*'])('refuses the expression %s', (source) => {
    expect(refusal(source)).toMatchObject({ code: 'invalid_job', param: 'lora.target_modules' });
  });

  it('is not hung by an expression that backtracking engines choke on', () => {
    const name = `${'a'.repeat(5000)}b`;
    const start = performance.now();
    expect(() => chooseTargets([layer(name)], '(a+)+', { headModule: null })).toThrow(/No layer/);
    expect(performance.now() - start).toBeLessThan(2000);
  });

  it('takes the layers of a classifier by their numbers', () => {
    const classifier = [layer('0'), layer('2')];
    expect(chooseTargets(classifier, ['2'], { headModule: null })).toEqual([layer('2')]);
    expect(chooseTargets(classifier, 'all-linear', { headModule: null })).toEqual(classifier);
  });
});
