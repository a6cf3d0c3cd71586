export {
  type Activation,
  type Architecture,
  type ClassifierArchitecture,
  type DecoderArchitecture,
  type DenseMlp,
  type Experts,
  hasTiedHead,
  type LatentAttention,
  type LayerAttention,
  type LayerSettings,
  LEAST_SHARED,
  type LinearAttention,
  LOGITS_PER_CHUNK,
  type Mixer,
  type Mlp,
  type NormSettings,
  type ParallelMlp,
  type QueryGrowth,
  type RopeScaling,
  type RopeSettings,
  type ScoredAttention,
  type SparseMlp,
} from './architecture.js';
export {
  type BaseDigests,
  type BaseIdentity,
  baseMismatch,
  digestArchitecture,
  digestBase,
  digestOfFiles,
  WEIGHT_DIGESTS_FOLDER,
  WeightDigests,
  type WeightsState,
} from './base-digests.js';
export { asTrained, baseModelOfAdapter, onLoad, quantizationOf, withBaseQuantization } from './base-quantization.js';
export type { JsonObject } from './config/json-file.js';
export { type LayerLinears, layerInputProjection, layerLinears, linearGroups } from './decoder-layout.js';
export {
  type DecoderNames,
  type LinearAttentionNames,
  LLAMA_NAMES,
  type ParallelMlpNames,
  tensorName,
  tensorOfLayer,
} from './decoder-names.js';
export { isComposite } from './families/composite.js';
export type { ExpertParameter, GgufModel, LinearLayer, QuantizedType } from './families/family.js';
export { FAMILIES, type FamilyName } from './families/family-registry.js';
export { intermediateSizeOf } from './layer-kinds/dense.js';
export { isByKeyHead, linearAttentionSizes } from './layer-kinds/linear.js';
export {
  hasScores,
  headsOf,
  keyValueNumbers,
  layersWithKeys,
  type MixerOf,
  mixerOf,
  mixerRoundings,
  mixersOf,
  rotaryDimOf,
  stateBytesPerText,
} from './layer-kinds/mixer-kinds.js';
export { type MlpOf, mlpRoundings } from './layer-kinds/mlp-kinds.js';
export { parallelMlpNames, parallelMlpScales } from './layer-kinds/parallel.js';
export { expertParameters, expertsOf, expertTensors, fusedTensorNames, hasExperts } from './layer-kinds/sparse.js';
export {
  checkModelConfig,
  DTYPE_NAMES,
  type DtypeName,
  type ModelFolder,
  ORIGIN_FILE,
  readModelFolder,
} from './model-folder.js';
export {
  loadModelText,
  ModelText,
  ModelTexts,
  type Prompt,
  readTokenizerFiles,
  stopTokenIds,
  TextStream,
  type TokenizerFiles,
} from './model-text.js';
export { describeModel, listModelFolders, openBaseModel } from './models-folder.js';
export {
  compileModulePattern,
  EXPERT_PARAMETERS,
  expertParametersOf,
  hasSuffix,
  isExpertParameter,
  lastPartOf,
  type ModulePattern,
  PatternError,
  patternKeyMatcher,
  targetModulesOf,
  targetParametersOf,
  wholeNameMatcher,
} from './module-pattern.js';
export { type CallSyntax, compactJson, JsonEnd, membersAsWritten, parsedObject } from './template/call-syntax.js';
export { type ChatTemplate, type ChatTemplateOptions, loadChatTemplate } from './template/chat-template.js';
export { parseWithWholeFloats, stripped, WHITE_SPACE, WholeFloat } from './template/python-values.js';
export { conversationOf, type TemplateConversation, type TemplateMessage } from './template/template-messages.js';
export type { MarkedText } from './template/template-renderer.js';
export { loadTokenizer, type Tokenizer, type TokensAround } from './tokenizer/tokenizer.js';
export { digestTokenizer } from './tokenizer/tokenizer-files.js';
export { checkScales, type FourBitWeight, QuantizedOnLoad, type StoredWeight } from './weight-formats/four-bit.js';
export { Fp8Weight } from './weight-formats/fp8.js';
export { checkMxfp4Scales, type Mxfp4Weight } from './weight-formats/mxfp4.js';
export { equalPart, type QuantizedWeight, type WeightReader } from './weight-formats/quantized-weight.js';
export { expertsStayQuantized, staysQuantized } from './weight-formats/weight-formats.js';
export type { LocatedTensor, WeightFile } from './weights/locate-tensors.js';
export {
  checkDecays,
  checkFactor,
  checkRouter,
  locateTensor,
  type ModelWeights,
  openModelWeights,
} from './weights/model-weights.js';
export { type ReadWeightsOptions, readWeights, type WeightTarget } from './weights/read-weights.js';
export { withOwnHead } from './weights/tied-head.js';
