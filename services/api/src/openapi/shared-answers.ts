interface Reference {
  $ref: string;
}

interface Response {
  description: string;
  content?: Record<string, { schema?: Partial<Reference> }>;
}

interface Document {
  paths?: Record<string, Record<string, { responses?: Record<string, Response | Reference> }>>;
  components?: { responses?: Record<string, Response> };
}

/** The least status of an error. */
const ERROR_STATUS = 400;

/** Moves the answers with errors, which most calls have in common, into the components of a document: one for each status and form of the body. */
export function withSharedErrors<Given extends object>(document: Given): Given {
  const { paths = {}, components = {} } = document as Document;
  const all = Object.values(paths)
    .flatMap((methods) => Object.values(methods))
    .flatMap(({ responses = {} }) => Object.entries(responses));
  const shared: Record<string, Response> = {};
  for (const [status, response] of mostFrequentFirst(all)) {
    const name = nameOf(status, response);
    if (name !== null) shared[name] ??= response as Response;
  }
  const sharedOf = (status: string, response: Response | Reference): Response | Reference => {
    const name = nameOf(status, response);
    // Another description than that of most stays where it is.
    if (name === null || JSON.stringify(shared[name]) !== JSON.stringify(response)) return response;
    return { $ref: `#/components/responses/${name}` };
  };
  const mapped = mapValues(paths, (methods) =>
    mapValues(methods, (operation) => {
      if (operation.responses === undefined) return operation;
      const entries = Object.entries(operation.responses);
      return { ...operation, responses: Object.fromEntries(entries.map(([s, one]) => [s, sharedOf(s, one)])) };
    }),
  );
  const responses = Object.fromEntries(Object.entries(shared).sort(([one], [other]) => (one < other ? -1 : 1)));
  return { ...document, paths: mapped, components: { ...components, responses } };
}

/** The name of the body and the status of an error; null for another answer. */
function nameOf(status: string, response: Response | Reference): string | null {
  const body = '$ref' in response ? undefined : response.content?.['application/json']?.schema?.$ref;
  return body === undefined || !(Number(status) >= ERROR_STATUS)
    ? null
    : `${body.slice(body.lastIndexOf('/') + 1)}${status}`;
}

function mostFrequentFirst(
  entries: readonly [string, Response | Reference][],
): readonly [string, Response | Reference][] {
  const counts = new Map<string, number>();
  for (const entry of entries) counts.set(JSON.stringify(entry), (counts.get(JSON.stringify(entry)) ?? 0) + 1);
  const countOf = (entry: [string, Response | Reference]) => counts.get(JSON.stringify(entry)) ?? 0;
  return entries.toSorted((one, other) => countOf(other) - countOf(one));
}

function mapValues<Value>(values: Record<string, Value>, map: (value: Value) => Value): Record<string, Value> {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, map(value)]));
}
