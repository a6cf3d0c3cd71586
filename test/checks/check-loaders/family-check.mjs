import path from 'node:path';
import { FAMILIES_DIR } from '../../family-models.mjs';
import { baseGguf, downloadFolders, ownAnswers, TOKENS } from './answers.mjs';
import { BFLOAT16, FLOAT32 } from './report.mjs';
import { answersOf, manyAnswersOf } from './venvs.mjs';

/** @import { Answers } from './answers.mjs' */

/**
 * A tiny model with an adapter that PEFT trained, in PEFT, transformers and llama.cpp.
 * @param {{ name: string, prompts: string[], client: any, folder: string, peers: import('./venvs.mjs').Peers,
 *   report: import('./report.mjs').Report, signal: AbortSignal }} options
 */
export async function checkFamily({ name, prompts, client, folder, peers, report, signal }) {
  const base = path.join(folder, 'models', name);
  const source = { folder: path.join(FAMILIES_DIR, name, 'adapter_trained') };
  const adapter = await client.importAdapter(source, { base_model: name });
  const ours = await ownAnswers(client, adapter.id, prompts);
  const files = await downloadFolders(client, adapter.id, path.join(folder, name), signal);
  const common = { prompts, tokens: TOKENS };
  const inMxfp4 = name.endsWith('-mxfp4');
  /** The answers that llama.cpp should give. @type {Answers} */
  let theirs = { error: 'left out' };
  if (peers.transformers !== null) {
    const [withPeft, alone, rounded] = await manyAnswersOf(
      peers.transformers,
      'transformers_peft.py',
      [
        { ...common, model: base, adapter: files.adapter },
        { ...common, model: files.merged },
        // llama.cpp multiplies weights in MXFP4 with activations that it rounds.
        ...(inMxfp4 ? [{ ...common, model: files.merged, q8_0_experts: true }] : []),
      ],
      signal,
    );
    theirs = rounded ?? alone;
    report.compare(name, 'PEFT, adapter', withPeft, [['ours', ours, BFLOAT16]]);
    report.compare(name, 'transformers, merged', alone, [
      ['ours', ours, BFLOAT16],
      ['PEFT', withPeft, FLOAT32],
    ]);
  }
  if (peers.llama === null) return;
  /** @param {'adapter' | 'merged'} weights @param {string} type */
  const gguf = async (weights, type) => {
    const file = path.join(folder, name, `${weights}-${type}.gguf`);
    await client.downloadAdapter(adapter.id, { file }, { weights, format: 'gguf', type, signal });
    return file;
  };
  const refused = await gguf('merged', 'f32').then(
    () => null,
    (/** @type {{ code: string, message: string }} */ error) => error,
  );
  if (refused !== null) {
    const line = `refused: ${refused.message}`;
    return refused.code === 'model_not_supported'
      ? report.line(name, 'llama.cpp', line)
      : report.failure(name, 'llama.cpp', line);
  }
  const model = path.join(folder, name, 'merged-f32.gguf');
  const references = /** @type {[string, Answers, number][]} */ ([
    ['ours', ours, BFLOAT16],
    ['transformers', theirs, FLOAT32],
  ]);
  const ofModel = await answersOf(peers.llama, 'llama_cpp.py', { ...common, model }, signal);
  report.compare(name, 'llama.cpp, merged f32', ofModel, references);
  const baseFile = await baseGguf(base, path.join(folder, name, 'base.gguf'));
  const file = await gguf('adapter', 'f32').catch((/** @type {{ code: string, message: string }} */ error) => {
    if (error.code !== 'model_not_supported') throw error;
    report.line(name, 'llama.cpp, base and adapter', `refused: ${error.message}`);
    return null;
  });
  if (file === null) return;
  const withAdapter = { ...common, model: baseFile, adapter: file };
  const ofAdapter = await answersOf(peers.llama, 'llama_cpp.py', withAdapter, signal);
  report.compare(name, 'llama.cpp, base and adapter', ofAdapter, references);
}
