import { MAX_ROW_TOKENS, type RowToken, type RowTokens } from '@lorasmith/contracts';
import { TextStream, type Tokenizer } from '@lorasmith/model-folder';
import type { RowView } from '../objective.js';
import type { LengthLimit, RowPiece } from './length-limit.js';
import { isTrainedCode, sequenceOfCodes } from './token-examples.js';

/** A row that is one sequence, as it is shown. @param codes of the whole row */
export function viewSequence(codes: Int32Array, limit: LengthLimit, tokenizer: Tokenizer): RowView {
  return { tokens: tokensOf(codes, fitted(codes, limit), tokenizer) };
}

/** The parts of a row that are left in the length that a job allows. */
export interface Fitted {
  outcome: RowTokens['outcome'];
  pieces: RowPiece[];
}

/** A sequence as tokens with their texts. @param codes `[tokens]` of the whole sequence */
export function tokensOf(codes: Int32Array, { outcome, pieces }: Fitted, tokenizer: Tokenizer): RowTokens {
  const { ids } = sequenceOfCodes(codes);
  const shown = [...ids.subarray(0, MAX_ROW_TOKENS)];
  const texts = textsOf(shown, tokenizer);
  const trained = trainedTokens(codes, pieces);
  const data = shown.map((id, token): RowToken => ({ id, text: texts[token]!, trained: trained[token] === 1 }));
  return {
    total: codes.length,
    trained: pieces.reduce((sum, piece) => sum + piece.trained, 0),
    outcome,
    sequences: pieces.map(({ start, tokens }) => ({ start, tokens })),
    data,
  };
}

/** The pieces of a row that is one sequence. */
export function fitted(codes: Int32Array, limit: LengthLimit): Fitted {
  if (codes.length <= limit.maxTokens) {
    const trained = codes.subarray(1).filter(isTrainedCode).length;
    return { outcome: 'complete', pieces: [{ start: 0, tokens: codes.length, trained }] };
  }
  return limit.faultOf(codes.length) === null ? limit.fit(codes) : { outcome: 'refused', pieces: [] };
}

/** `[tokens]`: 1 where a token is a target in one of the pieces. */
function trainedTokens(codes: Int32Array, pieces: readonly RowPiece[]): Uint8Array {
  const trained = new Uint8Array(codes.length);
  for (const { start, tokens } of pieces) {
    trained.set(sequenceOfCodes(codes.subarray(start, start + tokens)).trained, start);
  }
  return trained;
}

function textsOf(ids: readonly number[], tokenizer: Tokenizer): string[] {
  const stream = new TextStream(tokenizer, [], { skipSpecialTokens: false });
  const texts = ids.map((id) => stream.push(id));
  // Of a character that was cut.
  if (texts.length > 0) texts[texts.length - 1] += stream.end();
  return texts;
}
