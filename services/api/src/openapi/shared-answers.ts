import { errorDescription } from './answers.js';

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

/** Moves the answers with errors, which most calls have in common, into the components of a document: one for each status and form of the body. */
export function withSharedErrors<Given extends object>(document: Given): Given {
  const { paths = {}, components = {} } = document as Document;
  const shared: Record<string, Response> = {};
  const sharedOf = (status: string, response: Response | Reference): Response | Reference => {
    const body = '$ref' in response ? undefined : response.content?.['application/json']?.schema?.$ref;
    // One with a description of its own stays where it is.
    if (body === undefined || (response as Response).description !== errorDescription(status)) return response;
    const name = `${body.slice(body.lastIndexOf('/') + 1)}${status}`;
    shared[name] = response as Response;
    return { $ref: `#/components/responses/${name}` };
  };
  const mapped = mapValues(paths, (methods) =>
    mapValues(methods, ({ responses, ...operation }) =>
      responses === undefined
        ? operation
        : { ...operation, responses: mapValues(responses, (response, status) => sharedOf(status, response)) },
    ),
  );
  const responses = Object.fromEntries(Object.entries(shared).sort(([one], [other]) => (one < other ? -1 : 1)));
  return { ...document, paths: mapped, components: { ...components, responses } };
}

function mapValues<Value>(
  values: Record<string, Value>,
  map: (value: Value, key: string) => Value,
): Record<string, Value> {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, map(value, key)]));
}
