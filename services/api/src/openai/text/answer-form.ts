import type { GenerationPiece, Usage } from '@lorasmith/contracts';
import type { Static } from 'typebox';

/** The fields of every piece of an answer. */
export interface AnswerHead {
  id: string;
  created: number;
  /** The model named in the request. */
  model: string;
  /** The precision, in the field that the OpenAI API has for what else an answer depends on. */
  system_fingerprint?: string;
}

export type ChoicePiece = Extract<GenerationPiece, { type: 'text' | 'call' | 'finish' }>;
export type StartPiece = Extract<GenerationPiece, { type: 'start' }>;
export type EndPiece = Extract<GenerationPiece, { type: 'end' }>;

/** How one of the calls writes its answers. */
export interface AnswerForm<Whole, Chunk> {
  /** Called once it is known how the text is computed, before any other piece. */
  begin(start: StartPiece): void;
  /** The first chunks of a stream. */
  first(): Chunk[];
  chunkOf(piece: ChoicePiece): Chunk;
  /** The last chunk of a stream whose caller asks for the counts. */
  usageChunk(end: EndPiece): Chunk;
  /** Any other chunk of such a stream. */
  withUsage(chunk: Chunk): Chunk;
  whole(pieces: readonly ChoicePiece[], end: EndPiece): Whole;
}

export function fingerprintOf({ precision }: StartPiece): string {
  return `fp_${precision}`;
}

export function usageOf(end: EndPiece): Static<typeof Usage> {
  const { prompt_tokens: prompt, completion_tokens: completion } = end;
  return { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion };
}
