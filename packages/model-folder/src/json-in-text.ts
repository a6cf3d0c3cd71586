/** Looks for the end of a JSON object or array that comes in pieces, each of which it reads once. */
export class JsonEnd {
  #depth = 0;
  #isString = false;
  #isEscaped = false;

  /** @returns where the JSON ends in this piece of it; -1 if it goes on */
  push(piece: string): number {
    for (let at = 0; at < piece.length; at++) {
      const character = piece[at];
      if (this.#isEscaped) this.#isEscaped = false;
      else if (this.#isString) {
        if (character === '\\') this.#isEscaped = true;
        else if (character === '"') this.#isString = false;
      } else if (character === '"') this.#isString = true;
      else if (character === '{' || character === '[') this.#depth++;
      else if (character === '}' || character === ']') {
        this.#depth--;
        if (this.#depth === 0) return at + 1;
      }
    }
    return -1;
  }
}

/** Where the JSON object or array ends that starts at a place of a text; -1 if the text ends before it. */
export function jsonEnd(text: string, start: number): number {
  const end = new JsonEnd().push(text.slice(start));
  return end === -1 ? -1 : start + end;
}

/** The JSON object or array that a text is; null for any other text. */
export function parsedObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

const JSON_STRING = String.raw`"[^"\\]*(?:\\.[^"\\]*)*"`;
/** Strings of JSON, and what separates its values. */
const JSON_PARTS = new RegExp(String.raw`${JSON_STRING}|[{}[\],:]`, 'g');
/** Strings of JSON, or the white space between its parts. */
const JSON_SPACES = new RegExp(String.raw`(${JSON_STRING})|\s+`, 'g');

/** The members of a JSON object, each with its value as it is written; of members with the same name, the last. */
export function membersAsWritten(json: string): ReadonlyMap<string, string> {
  const members = new Map<string, string>();
  let depth = 0;
  let name = '';
  let start = -1;
  for (const { 0: part, index } of json.matchAll(JSON_PARTS)) {
    if (part === '{' || part === '[') depth++;
    else if (part === '}' || part === ']') depth--;
    if (depth === 1 && start === -1 && part.startsWith('"')) name = JSON.parse(part) as string;
    else if (depth === 1 && part === ':') start = index + 1;
    else if (start !== -1 && (depth === 0 || (depth === 1 && part === ','))) {
      members.set(name, json.slice(start, index).trim());
      start = -1;
    }
  }
  return members;
}

/** JSON without the white space between its parts. Everything else is as written: a number keeps all its digits. */
export function compactJson(json: string): string {
  return json.replace(JSON_SPACES, '$1');
}
