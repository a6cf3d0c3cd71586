import { type Examples, StoredSide } from '../../example-file/examples.js';
import type { EncodedRow } from '../next-token/encode-segments.js';
import { codesOfSequence, sequenceOfCodes } from '../next-token/token-examples.js';

/** A prompt with an answer, as tokens, and whether it is wanted. Targets of the loss are the tokens of the answer. */
export interface LabelledAnswer {
  sequence: EncodedRow;
  label: boolean;
}

/** Answers with a label. */
export interface LabelledExamples extends Examples {
  kind: 'labelled';
  answer(index: number): LabelledAnswer;
  label(index: number): boolean;
}

export class StoredAnswers extends StoredSide implements LabelledExamples {
  readonly kind = 'labelled';

  answer(index: number): LabelledAnswer {
    return answerOfCodes(this.codes(index));
  }

  label(index: number): boolean {
    return isLabelled(this.firstCode(index));
  }
}

/** Marks the first code of an answer with the label true; ids are far smaller than 2^30. */
const LABEL = 0x40000000;

/** The codes of a sequence, of which the first has the label. So it is in every piece that begins with the row. */
export function codesOfAnswer({ sequence, label }: LabelledAnswer): Int32Array {
  const codes = codesOfSequence(sequence);
  if (label) codes[0]! |= LABEL;
  return codes;
}

export function answerOfCodes(codes: Int32Array): LabelledAnswer {
  const ofSequence = codes.slice();
  ofSequence[0]! &= ~LABEL;
  return { sequence: sequenceOfCodes(ofSequence), label: isLabelled(codes[0]!) };
}

function isLabelled(code: number): boolean {
  return (code & LABEL) !== 0;
}
