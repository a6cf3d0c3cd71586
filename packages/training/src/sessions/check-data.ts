import {
  type ForwardBackwardOp,
  MAX_TARGETS_EACH,
  ProductError,
  SESSION_LOSS_INPUTS,
  SESSION_LOSSES,
  type SessionDatum,
  type SessionLoss,
} from '@lorasmith/contracts';
import type { DecoderArchitecture } from '@lorasmith/model-folder';

/**
 * Checks all data of an op before anything of it is computed.
 * @throws ProductError invalid_request, row_too_long, each naming the datum (from 0)
 */
export function checkData({ loss, settings, data }: ForwardBackwardOp, architecture: DecoderArchitecture): void {
  if (!SESSION_LOSSES.includes(loss)) {
    throw invalid(`There is no loss ${JSON.stringify(loss)}. There are: ${SESSION_LOSSES.join(', ')}.`);
  }
  const inputs = SESSION_LOSS_INPUTS[loss];
  for (const [name, value] of Object.entries(settings)) {
    if (!inputs.settings.includes(name)) throw invalid(`The loss ${loss} has no setting ${JSON.stringify(name)}.`);
    if (!Number.isFinite(value) || value < 0)
      throw invalid(`The setting ${name} of ${loss} is ${value}; 0 or more is expected.`);
  }
  if (data.length === 0) throw invalid('The op has no data. Send at least one datum.');
  for (const [index, datum] of data.entries()) {
    checkTokens(datum, index, architecture);
    checkTargets(datum, index, loss, architecture.vocabSize);
    checkFields(datum, index, loss);
  }
}

function checkTokens({ tokens }: SessionDatum, index: number, { maxPositions, vocabSize }: DecoderArchitecture): void {
  if (tokens.length === 0) throw invalid(`Datum ${index} has no tokens.`);
  if (tokens.length > maxPositions) {
    const message = `Datum ${index} has ${tokens.length} tokens; the base model has ${maxPositions} positions. Cut it.`;
    throw new ProductError('row_too_long', message);
  }
  checkIds(tokens, index, 'token', vocabSize);
}

function checkTargets(
  { tokens, targets, targetsEach }: SessionDatum,
  index: number,
  loss: SessionLoss,
  vocabSize: number,
): void {
  const most = SESSION_LOSS_INPUTS[loss].isSoft ? MAX_TARGETS_EACH : 1;
  if (!Number.isInteger(targetsEach) || targetsEach < 1 || targetsEach > most) {
    throw invalid(`Datum ${index} has ${targetsEach} targets of a position; the loss ${loss} takes at most ${most}.`);
  }
  if (targets.length !== tokens.length * targetsEach) {
    throw invalid(`Datum ${index} has ${targets.length} targets; its tokens have ${tokens.length * targetsEach}.`);
  }
  checkIds(targets, index, 'target', vocabSize);
}

function checkIds(ids: Int32Array, index: number, what: string, vocabSize: number): void {
  const at = ids.findIndex((id) => id < 0 || id >= vocabSize);
  if (at === -1) return;
  throw invalid(
    `Datum ${index} has the ${what} ${ids[at]} at ${at}; the base model has the tokens 0 to ${vocabSize - 1}.`,
  );
}

function checkFields({ targets, fields }: SessionDatum, index: number, loss: SessionLoss): void {
  const inputs = SESSION_LOSS_INPUTS[loss];
  const missing = inputs.needs.find((name) => fields[name] === undefined);
  if (missing !== undefined) throw invalid(`Datum ${index} has no ${missing}, which the loss ${loss} needs.`);
  for (const [name, values] of Object.entries(fields)) {
    if (!inputs.needs.includes(name) && !inputs.mayHave.includes(name)) {
      throw invalid(`Datum ${index} has the field ${JSON.stringify(name)}, which the loss ${loss} does not take.`);
    }
    if (values.length !== targets.length) {
      throw invalid(`Datum ${index} has ${values.length} numbers of ${name}; it has ${targets.length} targets.`);
    }
    const at = values.findIndex((value) => !Number.isFinite(value));
    if (at !== -1) throw invalid(`Datum ${index} has ${values[at]} in ${name} at ${at}. Every number must be finite.`);
  }
}

function invalid(message: string): ProductError {
  return new ProductError('invalid_request', message);
}
