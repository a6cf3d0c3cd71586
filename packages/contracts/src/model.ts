import { type Static, Type } from 'typebox';
import { ModelOrigin } from './model-pull.js';
import { closed, ModelName, Nullable } from './schema-parts.js';

/** A linear layer that LoRA can adapt, or a parameter with the weights of all experts of a layer. */
export const AdaptableModule = Type.Object(
  {
    name: Type.String({
      description:
        'Full module path, such as model.layers.0.self_attn.q_proj, or that of a parameter, such as model.layers.0.mlp.experts.down_proj.',
    }),
    in_features: Type.Integer({ minimum: 1 }),
    out_features: Type.Integer({ minimum: 1 }),
    experts: Type.Optional(
      Type.Integer({
        minimum: 1,
        description:
          'Of a parameter: how many experts it has the weights of. in_features and out_features are of each.',
      }),
    ),
  },
  { $id: 'AdaptableModule', ...closed },
);
export type AdaptableModule = Static<typeof AdaptableModule>;

/** A base model on this host. */
export const BaseModel = Type.Object(
  {
    name: ModelName,
    object: Type.Literal('model'),
    family: Nullable(Type.String(), {
      description:
        'The model_type of the language model, such as llama or gemma3_text, or classifier; null if the model cannot be used.',
    }),
    parameters: Nullable(Type.Integer({ minimum: 0 })),
    bytes: Type.Integer({ minimum: 0, description: 'Size of the weight files.' }),
    dtype: Nullable(
      Type.String({
        description: 'float32, float16 or bfloat16; nf4 or fp4 (4 bits) or fp8 (8 bits) where most weights are.',
      }),
    ),
    max_positions: Nullable(Type.Integer()),
    target_modules: Type.Array(Type.String(), { description: 'Names that target_modules may contain.' }),
    problem: Nullable(Type.Object({ code: Type.String(), message: Type.String() }, closed), {
      description: 'Why the model cannot be trained, or null.',
    }),
    origin: Nullable(ModelOrigin, { description: 'Where it was pulled from; null if it came otherwise.' }),
  },
  { $id: 'BaseModel', ...closed },
);
export type BaseModel = Static<typeof BaseModel>;

const problem = Type.Object({ code: Type.String(), message: Type.String() }, closed);
const token = Nullable(Type.String());

/** A language model's way to read text, from its files. */
const ModelTextFacts = Type.Object(
  {
    vocab_size: Type.Integer({ minimum: 1 }),
    bos_token: token,
    eos_token: token,
    pad_token: token,
    chat_template: Nullable(Type.String(), {
      description: 'Its source (Jinja), up to 65,536 characters; null if the model has none.',
    }),
    problem: Nullable(problem, { description: 'Why the files of the tokenizer could not be read, or null.' }),
  },
  { $id: 'ModelTextFacts', ...closed },
);

/** `GET /models/:name`: with every module. */
export const BaseModelDetail = Type.Object(
  {
    ...BaseModel.properties,
    modules: Type.Array(AdaptableModule, {
      description: 'Every linear layer; last the output head, which "all-linear" leaves out.',
    }),
    expert_parameters: Type.Array(AdaptableModule, {
      description: 'The parameters of experts, which target_parameters selects; empty for a model without experts.',
    }),
    text: Nullable(ModelTextFacts, { description: 'Null for a classifier, and for a model that cannot be used.' }),
  },
  { $id: 'BaseModelDetail', ...closed },
);
export type BaseModelDetail = Static<typeof BaseModelDetail>;
export const BaseModelList = Type.Object(
  { data: Type.Array(BaseModel), has_more: Type.Literal(false), next: Type.Null() },
  { $id: 'BaseModelList', ...closed },
);
