import { MAX_TARGETS_EACH, SESSION_LOSS_INPUTS, type SessionDatum, type SessionLoss } from '@lorasmith/contracts';
import type { MessageReader } from './message-reader.js';
import { type ElementBudget, float32Elements, int32Elements, int32Tokens, readTensor } from './request-tensor.js';
import { quoted, WireError } from './wire-error.js';

const TARGETS = 'target_tokens';

export interface DatumContext {
  loss: SessionLoss;
  maxTokens: number;
  budget: ElementBudget;
}

/**
 * Read a `Datum`. Its provenance spans are ignored.
 *
 * @throws {WireError} for images, and for inputs that the loss does not know, lacks, or has in another size
 */
export function readDatum(
  reader: MessageReader,
  path: string,
  { loss, maxTokens, budget }: DatumContext,
): SessionDatum {
  const chunks: Int32Array[] = [];
  const inputs = new Map<string, MessageReader>();
  let tokenCount = 0;
  const inputPath = `${path}.model_input`;
  while (reader.next()) {
    if (reader.field === 1) {
      const chunk = readChunk(reader.message(inputPath), inputPath);
      // An empty chunk is not kept: its object is larger than its bytes.
      if (chunk.length > 0) chunks.push(chunk);
      tokenCount += chunk.length;
      if (tokenCount > maxTokens) throw new WireError(inputPath, `has more than ${maxTokens} tokens`);
    } else if (reader.field === 2) {
      addInput(inputs, reader.message(`${path}.loss_fn_inputs`), `${path}.loss_fn_inputs`, loss);
    } else reader.skip();
  }
  if (tokenCount === 0) throw new WireError(inputPath, 'has no tokens');
  return { tokens: joined(chunks, tokenCount), ...readInputs(inputs, tokenCount, { path, loss, budget }) };
}

/** @returns the tokens of a `Chunk` */
function readChunk(reader: MessageReader, path: string): Int32Array {
  let text: MessageReader | null = null;
  while (reader.next()) {
    if (reader.field === 1) text = reader.message(path);
    else if (reader.field === 2) throw new WireError(path, 'images are not supported');
    else if (reader.field === 3) throw new WireError(path, 'dmel chunks (sound) are not supported');
    else reader.skip();
  }
  if (text === null) throw new WireError(path, 'has a chunk that is not encoded text');
  let tokens: Uint8Array = new Uint8Array();
  while (text.next()) {
    if (text.field === 1) tokens = text.bytes(path);
    else text.skip();
  }
  return int32Tokens(tokens, path);
}

function joined(chunks: readonly Int32Array[], length: number): Int32Array {
  if (chunks.length === 1) return chunks[0]!;
  const tokens = new Int32Array(length);
  let at = 0;
  for (const chunk of chunks) {
    tokens.set(chunk, at);
    at += chunk.length;
  }
  return tokens;
}

/** Keep an entry of `loss_fn_inputs`. */
function addInput(inputs: Map<string, MessageReader>, entry: MessageReader, path: string, loss: SessionLoss): void {
  let name = '';
  let tensor: MessageReader | null = null;
  while (entry.next()) {
    if (entry.field === 1) name = entry.text(path);
    else if (entry.field === 2) tensor = entry.message(path);
    else entry.skip();
  }
  const { needs, mayHave } = SESSION_LOSS_INPUTS[loss];
  if (name !== TARGETS && !needs.includes(name) && !mayHave.includes(name)) {
    throw new WireError(path, `the loss ${loss} has no input ${quoted(name)}`);
  }
  if (tensor === null) throw new WireError(`${path}.${name}`, 'has no value');
  if (inputs.has(name)) throw new WireError(`${path}.${name}`, 'is there twice');
  inputs.set(name, tensor);
}

function readInputs(
  inputs: ReadonlyMap<string, MessageReader>,
  tokenCount: number,
  { path, loss, budget }: { path: string; loss: SessionLoss; budget: ElementBudget },
): Omit<SessionDatum, 'tokens'> {
  const missing = [TARGETS, ...SESSION_LOSS_INPUTS[loss].needs].find((name) => !inputs.has(name));
  if (missing !== undefined) throw new WireError(`${path}.loss_fn_inputs`, `the loss ${loss} needs ${missing}`);
  const read = (name: string) => readTensor(inputs.get(name)!, `${path}.loss_fn_inputs.${name}`, budget);

  const tensor = read(TARGETS);
  const [rows, targetsEach = 1] = tensor.shape;
  const most = SESSION_LOSS_INPUTS[loss].isSoft ? MAX_TARGETS_EACH : 1;
  if (rows !== tokenCount)
    throw new WireError(tensor.path, `has ${rows} positions, and model_input ${tokenCount} tokens`);
  if (targetsEach < 1 || targetsEach > most) {
    throw new WireError(tensor.path, `has ${targetsEach} targets of each position: the loss ${loss} has 1 to ${most}`);
  }
  const fields: Record<string, Float32Array> = {};
  for (const name of inputs.keys()) {
    if (name === TARGETS) continue;
    const field = read(name);
    // [N] and [N, 1] are one shape.
    if (field.shape[0] !== rows || (field.shape[1] ?? 1) !== targetsEach) {
      throw new WireError(field.path, `has the shape [${field.shape}], and ${TARGETS} [${tensor.shape}]`);
    }
    fields[name] = float32Elements(field);
  }
  return { targets: int32Elements(tensor), targetsEach, fields };
}
