import type { JobRequest } from '@lorasmith/contracts';
import { tagsOfText } from '../details/tags-of-text.js';
import type { JobField } from './job-fields.js';

/** The entries of the form: texts by the id of the field. A field that is missing or empty has its default. */
export type Draft = Readonly<Record<string, string>>;

/** The request of a draft. A text that does not fit its field is sent as it is: the service says what is wrong with it. */
export function requestOf(fields: readonly JobField[], draft: Draft): JobRequest {
  const request: Record<string, unknown> = {};
  for (const field of fields) {
    const text = draft[field.id] ?? '';
    if (text.trim() === '') continue;
    let object = request;
    for (const name of field.path.slice(0, -1)) {
      object[name] ??= {};
      object = object[name] as Record<string, unknown>;
    }
    object[field.path.at(-1)!] = valueFrom(field, text);
  }
  return request as JobRequest;
}

/** The draft that has this request, or job, as its result. Values that are the defaults are left out. */
export function draftOf(fields: readonly JobField[], request: object): Draft {
  const draft: Record<string, string> = {};
  for (const field of fields) {
    let value: unknown = request;
    for (const name of field.path) value = (value as Record<string, unknown> | null | undefined)?.[name];
    if (value === undefined || JSON.stringify(value) === JSON.stringify(field.preset)) continue;
    // A field that is in a nullable object has no default while the object is null.
    if (value === null && field.preset === undefined) continue;
    draft[field.id] = textOf(field, value);
  }
  return draft;
}

function valueFrom({ input, isNullable, acceptsText }: JobField, text: string): unknown {
  const trimmed = text.trim();
  if (isNullable && trimmed === 'null') return null;
  switch (input) {
    case 'number':
      return numberOf(trimmed);
    case 'flag':
      return trimmed === 'true';
    case 'list':
      return listOf(trimmed, acceptsText);
    case 'tags':
      return tagsOfText(text);
    case 'lines':
      return text
        .split('\n')
        .filter((line) => line.trim() !== '')
        .map((line) => (line.startsWith('[') ? jsonOf(line) : line));
    case 'json':
      return jsonOf(trimmed);
    default:
      return trimmed;
  }
}

function numberOf(text: string): number | string {
  return Number.isFinite(Number(text)) ? Number(text) : text;
}

/** `q_proj, v_proj` is a list; where text is allowed, too, other texts are sent as they are, and so is `all-linear`. */
function listOf(text: string, acceptsText: boolean): unknown {
  if (text.startsWith('[')) return jsonOf(text);
  if (acceptsText && (text === 'all-linear' || !/^[\w.]+(\s*,\s*[\w.]+)*,?$/.test(text))) return text;
  const items = text.split(',').flatMap((item) => item.trim() || []);
  return acceptsText ? items : items.map(numberOf);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function textOf({ input }: JobField, value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) {
    // An empty text would mean the default.
    if (input === 'tags') return value.join(', ');
    if (input === 'list' && value.length > 0 && value.every((item) => typeof item !== 'object'))
      return value.join(', ');
    if (input === 'lines') return value.map(lineOf).join('\n');
  }
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** A text of several lines is a conversation of one message, which means the same. */
function lineOf(item: unknown): string {
  if (typeof item === 'string' && !item.includes('\n') && !item.startsWith('[') && item.trim() !== '') return item;
  return JSON.stringify(typeof item === 'string' ? [{ role: 'user', content: item }] : item);
}
