import { type Static, Type } from 'typebox';
import { closed, ModelName } from './schema-parts.js';

/** The model that a session trains: LoRA on a base model, without dropout. */
export const SessionModelSpec = Type.Object(
  {
    base_model: ModelName,
    rank: Type.Integer({ minimum: 1 }),
    seed: Type.Integer({ description: 'The seed of the first numbers of A.' }),
    train_attn: Type.Boolean({ description: 'Whether linear layers of attention are adapted.' }),
    train_mlp: Type.Boolean({ description: 'Whether those of MLPs are.' }),
    train_unembed: Type.Boolean({ description: 'Whether the output head is.' }),
  },
  { $id: 'SessionModelSpec', ...closed },
);
export type SessionModelSpec = Static<typeof SessionModelSpec>;
