import { type ForwardBackwardOp, SESSION_LOSS_INPUTS, type SessionLoss } from '@lorasmith/contracts';
import { checkLoss } from './check-loss.js';
import { MessageReader } from './message-reader.js';
import { readDatum } from './request-datum.js';
import { quoted, WireError } from './wire-error.js';

/** The default of {@link RequestLimits.maxElements}: more than dense tensors of a body of 32 MiB have. */
export const MAX_REQUEST_ELEMENTS = 2 ** 25;

export interface RequestLimits {
  maxDatums: number;
  /** The most tokens of a datum. */
  maxTokens: number;
  /** The most elements of all tensors, once dense: sparse ones have few bytes. @defaultValue {@link MAX_REQUEST_ELEMENTS} */
  maxElements?: number;
}

/** The most fields of all messages of a request. The client writes some 30 for a datum: more cost time, though they may have few bytes. */
const MAX_FIELDS = 2 ** 19;

/** A call on the model of a client. */
export interface ForwardBackwardRequest {
  modelId: string;
  /** The place of the call among those on the model: 1, 2, … */
  seqId: number;
  op: ForwardBackwardOp;
}

/**
 * Decode a `ForwardBackwardRequest` of the tinker SDK. The arrays of the op may be views of `bytes`.
 *
 * @throws {WireError} for a body that is not one, and for what is not served: images, losses, inputs and settings
 */
export function decodeForwardBackwardRequest(bytes: Uint8Array, limits: RequestLimits): ForwardBackwardRequest {
  const fields = readFields(bytes, limits.maxDatums);
  if (fields.modelId === '') throw new WireError('model_id', 'is missing');
  if (!isSeqId(fields.seqId)) throw new WireError('seq_id', `${fields.seqId} is not 1, 2, …`);
  const loss = checkLoss(fields.loss);
  if (fields.data.length === 0) throw new WireError('data', 'is empty');
  const budget = { remaining: limits.maxElements ?? MAX_REQUEST_ELEMENTS };
  const data = fields.data.map((datum, index) => {
    return readDatum(datum, `data[${index}]`, { loss, budget, maxTokens: limits.maxTokens });
  });
  // Clients write numbers in both maps: the older is for servers that know no other.
  const settings =
    fields.settings.length > 0
      ? readSettings(fields.settings, 'loss_fn_config_v2', loss, readValue)
      : readSettings(fields.oldSettings, 'loss_fn_config', loss, readDouble);
  const op = { kind: 'forward-backward' as const, loss, settings, isForwardOnly: fields.isForwardOnly, data };
  return { modelId: fields.modelId, seqId: fields.seqId, op };
}

const isSeqId = (seqId: number) => seqId >= 1 && seqId < 2 ** 31;

/** The model and the number of a request, of which no more need be readable. @returns null where these are not */
export function readCallNumber(bytes: Uint8Array): { modelId: string; seqId: number } | null {
  const call = { modelId: '', seqId: 0 };
  try {
    const reader = new MessageReader(bytes, 'request', { remaining: MAX_FIELDS });
    // The client writes them first.
    while ((call.modelId === '' || call.seqId === 0) && reader.next()) {
      if (reader.field === 1) call.modelId = reader.text('model_id');
      else if (reader.field === 2) call.seqId = reader.integer('seq_id');
      else reader.skip();
    }
  } catch (error) {
    if (error instanceof WireError) return null;
    throw error;
  }
  return call.modelId !== '' && isSeqId(call.seqId) ? call : null;
}

/** The most entries of a map of settings. Of one name, the last counts. */
const MAX_SETTINGS = 100;

interface RequestFields {
  modelId: string;
  seqId: number;
  data: MessageReader[];
  loss: string;
  /** Entries of `loss_fn_config`. */
  oldSettings: MessageReader[];
  isForwardOnly: boolean;
  /** Entries of `loss_fn_config_v2`. */
  settings: MessageReader[];
}

function readFields(bytes: Uint8Array, maxDatums: number): RequestFields {
  const reader = new MessageReader(bytes, 'request', { remaining: MAX_FIELDS });
  const [data, oldSettings, settings]: [MessageReader[], MessageReader[], MessageReader[]] = [[], [], []];
  const fields = { modelId: '', seqId: 0, data, loss: '', oldSettings, isForwardOnly: false, settings };
  while (reader.next()) {
    if (reader.field === 1) fields.modelId = reader.text('model_id');
    else if (reader.field === 2) fields.seqId = reader.integer('seq_id');
    else if (reader.field === 3) addBounded(data, reader.message(`data[${data.length}]`), 'data', maxDatums);
    else if (reader.field === 4) fields.loss = reader.text('loss_fn');
    else if (reader.field === 5)
      addBounded(oldSettings, reader.message('loss_fn_config'), 'loss_fn_config', MAX_SETTINGS);
    else if (reader.field === 6) fields.isForwardOnly = reader.integer('forward_only') !== 0;
    else if (reader.field === 7)
      addBounded(settings, reader.message('loss_fn_config_v2'), 'loss_fn_config_v2', MAX_SETTINGS);
    else reader.skip();
  }
  return fields;
}

function addBounded(list: MessageReader[], item: MessageReader, name: string, most: number): void {
  if (list.length === most) throw new WireError(name, `has more than ${most} items`);
  list.push(item);
}

/** @param readNumber reads the value of an entry; without a reader, that of an entry that has none */
function readSettings(
  entries: readonly MessageReader[],
  path: string,
  loss: SessionLoss,
  readNumber: (reader: MessageReader | null, path: string) => number,
): Record<string, number> {
  const settings: Record<string, number> = {};
  for (const reader of entries) {
    let name = '';
    let value: number | null = null;
    while (reader.next()) {
      if (reader.field === 1) name = reader.text(path);
      else if (reader.field === 2) value = readNumber(reader, `${path}.${quoted(name)}`);
      else reader.skip();
    }
    if (!SESSION_LOSS_INPUTS[loss].settings.includes(name)) {
      throw new WireError(path, `the loss ${loss} has no setting ${quoted(name)}`);
    }
    settings[name] = value ?? readNumber(null, `${path}.${quoted(name)}`);
  }
  return settings;
}

/** Read a number. Protobuf may leave out one that is zero. */
function readDouble(reader: MessageReader | null, path: string): number {
  return reader === null ? 0 : reader.double(path);
}

/** Read a `LossConfigValue`: a number, or a text, which no loss of ours has. */
function readValue(reader: MessageReader | null, path: string): number {
  let value: number | null = null;
  const inner = reader?.message(path);
  while (inner?.next()) {
    if (inner.field === 1) value = inner.double(path);
    else if (inner.field === 2) throw new WireError(path, 'is a text, and must be a number');
    else inner.skip();
  }
  if (value === null) throw new WireError(path, 'has no value');
  return value;
}
