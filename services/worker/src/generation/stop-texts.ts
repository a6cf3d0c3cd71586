/** Looks for texts that end an answer, also where they are spread over several pieces. */
export class StopTexts {
  readonly #stops: readonly string[];
  /** Text that may be the start of a stop text. */
  #held = '';

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** @returns the text that can be no part of a stop text, and whether one has come; the text before it is then all */
  push(piece: string): { text: string; stopped: boolean } {
    const text = this.#held + piece;
    // The first that is complete counts, however the text is divided into pieces; of two, the longer one.
    const [found] = this.#stops
      .map((stop) => ({ start: text.indexOf(stop), length: stop.length }))
      .filter(({ start }) => start !== -1)
      .sort((one, other) => one.start + one.length - (other.start + other.length) || one.start - other.start);
    if (found !== undefined) {
      this.#held = '';
      return { text: text.slice(0, found.start), stopped: true };
    }
    const held = Math.max(0, ...this.#stops.map((stop) => startAtEnd(text, stop)));
    this.#held = text.slice(text.length - held);
    return { text: text.slice(0, text.length - held), stopped: false };
  }

  /** The text that is held, once no more comes. */
  end(): string {
    return this.#held;
  }
}

/** How many characters at the end of a text are the start of another. */
export function startAtEnd(text: string, stop: string): number {
  for (let length = Math.min(stop.length - 1, text.length); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
