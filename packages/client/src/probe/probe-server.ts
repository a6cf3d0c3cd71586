import { type AdapterManifest, ProductError } from '@lorasmith/contracts';
import type { CallOptions } from '../call-options.js';
import { type CompletionsServerOptions, createCompletionsServer, type NextTokenAnswer } from './completions-server.js';
import { judgeProbe, type ProbeJudgement } from './judge-probe.js';

export interface ProbeServerOptions extends CompletionsServerOptions, CallOptions {
  /** Name of the model on the server. @defaultValue the only one it serves, or the one with the adapter's id or name */
  model?: string | undefined;
  /** See {@link judgeProbe}. @defaultValue 0.5 */
  tolerance?: number | undefined;
}

export interface ProbeResult extends ProbeJudgement {
  adapter: string;
  /** Name of the model on the server. */
  model: string;
}

/**
 * Sends the prompts of an adapter's probe to a server, and judges whether it answers as the adapter does.
 *
 * @throws ProductError `not_found` when the manifest has no such probe, `invalid_request` when it is not clear which model
 * to use; errors of the server
 */
export async function probeServer(manifest: AdapterManifest, options: ProbeServerOptions): Promise<ProbeResult> {
  const { origin } = manifest;
  if (origin.kind === 'imported') throw noProbe(manifest, 'it was imported, not trained here');
  const { probe } = origin;
  if (probe.kind === 'class-scores')
    throw noProbe(manifest, 'it is the probe of a classifier, which does not complete text');
  if (probe.cases.length === 0) throw noProbe(manifest, 'its prompts could not be tokenized');
  const server = createCompletionsServer(options);
  const model = options.model ?? (await onlyModel(await server.models(options), manifest));
  const answers: NextTokenAnswer[] = [];
  // One at a time: small servers answer concurrent requests slowly or not at all.
  for (const { prompt, token_ids } of probe.cases) {
    answers.push(await server.nextToken(model, { text: prompt, tokenIds: token_ids }, options));
  }
  return { adapter: manifest.id, model, ...judgeProbe(probe.cases, answers, options.tolerance) };
}

function noProbe({ id }: AdapterManifest, reason: string): ProductError {
  return new ProductError('not_found', `The manifest of ${id} has no probe for a completions server: ${reason}.`);
}

async function onlyModel(models: readonly string[], { id, name }: AdapterManifest): Promise<string> {
  const named = models.find((model) => model === id || model === name);
  if (named !== undefined) return named;
  if (models.length === 1) return models[0]!;
  const served = models.length === 0 ? 'The server lists no models' : `The server has ${models.join(', ')}`;
  throw new ProductError('invalid_request', `${served}: select one with --model.`, { param: 'model' });
}
