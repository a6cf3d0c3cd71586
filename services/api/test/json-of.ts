import type { ErrorBody } from '@lorasmith/contracts';

/** The JSON of an answer, with the type that the test expects. */
export async function jsonOf<Body = ErrorBody>(answer: { json(): Promise<unknown> }): Promise<Body> {
  return (await answer.json()) as Body;
}
