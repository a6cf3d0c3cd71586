import type { ErrorBody } from '@lorasmith/contracts';

/** The JSON of an answer, taken for what the test expects it to be. */
export async function jsonOf<Body = ErrorBody>(answer: { json(): Promise<unknown> }): Promise<Body> {
  return (await answer.json()) as Body;
}
