import { type Static, Type } from 'typebox';
import { closed, ModelName, Nullable } from './schema-parts.js';

/** A model that can be named in a request: an adapter, or a base model. */
export const OpenaiModel = Type.Object(
  {
    id: Type.String({
      description:
        'Of an adapter, `ft:<base model>:lorasmith:<suffix>:<adapter id>`, where the suffix comes from its name.',
    }),
    object: Type.Literal('model'),
    created: Type.Integer({ description: 'Unix time in seconds. 0 for a base model.' }),
    owned_by: Type.String({ description: "The id of the adapter's key; `lorasmith` for all else." }),
    parent: Nullable(ModelName, { description: 'The base model of an adapter; null for a base model.' }),
  },
  { $id: 'OpenaiModel', ...closed },
);
export type OpenaiModel = Static<typeof OpenaiModel>;

export const OpenaiModelList = Type.Object(
  { object: Type.Literal('list'), data: Type.Array(OpenaiModel) },
  { $id: 'OpenaiModelList', ...closed },
);

export const OpenaiModelDeleted = Type.Object(
  { id: Type.String(), object: Type.Literal('model'), deleted: Type.Literal(true) },
  { $id: 'OpenaiModelDeleted', ...closed },
);

/** The body of every answer under `/v1` with a status of 4xx or 5xx. */
export const OpenaiErrorBody = Type.Object(
  {
    error: Type.Object(
      {
        message: Type.String({ description: 'Says what happened and what to do.' }),
        type: Type.Enum(['invalid_request_error', 'rate_limit_error', 'server_error']),
        param: Nullable(Type.String()),
        code: Type.String({ description: 'Stable code of the error.' }),
      },
      closed,
    ),
  },
  { $id: 'OpenaiErrorBody', ...closed },
);
export type OpenaiErrorBody = Static<typeof OpenaiErrorBody>;
