/** The part of the library that joins tokens to a text. */
export interface LibraryDecoder {
  config: { type?: unknown };
  /** The steps of a sequence; null for a step that does nothing. */
  decoders?: (LibraryDecoder | null)[];
  /** The decoder of the bytes that tokens stand for. */
  text_decoder?: InstanceType<typeof TextDecoder>;
}

/** A correction of a decoder, which otherwise drops a byte order mark that is written in tokens of bytes. */
export function keepByteOrderMark(decoder: LibraryDecoder | null): void {
  if (decoder === null) return;
  if (decoder.config.type === 'ByteFallback') decoder.text_decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  for (const step of decoder.decoders ?? []) keepByteOrderMark(step);
}
