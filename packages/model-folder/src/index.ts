export type {
  Activation,
  Architecture,
  BesideMlp,
  BesideMlpNames,
  ClassifierArchitecture,
  DecoderArchitecture,
  DecoderNames,
  DenseMlp,
  Experts,
  LatentAttention,
  LayerAttention,
  LayerSettings,
  LinearAttention,
  LinearAttentionNames,
  Mixer,
  Mlp,
  NormSettings,
  QueryGrowth,
  RopeScaling,
  RopeSettings,
  ScoredAttention,
  SparseMlp,
} from './architecture.js';
export { hasTiedHead, LEAST_SHARED, LOGITS_PER_CHUNK } from './architecture.js';
export { type BaseDigests, type BaseIdentity, baseMismatch, digestArchitecture, digestBase } from './base-digests.js';
export { describeModel, listModelFolders, ORIGIN_FILE, openBaseModel } from './base-models.js';
export { asTrained, onLoad, quantizationOf, withBaseQuantization } from './base-quantization.js';
export type { CallSyntax } from './call-syntax.js';
export { type ChatTemplate, type ChatTemplateOptions, loadChatTemplate } from './chat-template.js';
export { conversationOf, type TemplateConversation, type TemplateMessage } from './conversation.js';
export { EXPERT_PARAMETERS, expertParametersOf, isExpertParameter, targetParametersOf } from './expert-parameters.js';
export { isComposite } from './families/composite.js';
export { type LayerLinears, layerInputProjection, layerLinears, linearGroups } from './families/decoder-layout.js';
export { LLAMA_NAMES, tensorName, tensorOfLayer } from './families/decoder-names.js';
export type { ExpertParameter, GgufModel, LinearLayer } from './families/family.js';
export { FAMILIES, type FamilyName } from './families/family-registry.js';
export type { MarkedText } from './generation-marks.js';
export type { JsonObject } from './json-file.js';
export { compactJson, JsonEnd, membersAsWritten, parsedObject } from './json-in-text.js';
export { besideNames, besideScales } from './layer-kinds/beside.js';
export { intermediateSizeOf } from './layer-kinds/dense.js';
export { expertParameters, expertsOf, expertTensors, fusedTensorNames, hasExperts } from './layer-kinds/experts.js';
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
export { checkModelConfig, DTYPE_NAMES, type DtypeName, type ModelFolder, readModelFolder } from './model-folder.js';
export { loadModelText, ModelText, ModelTexts, type Prompt, stopTokenIds } from './model-text.js';
export { locateTensor, type ModelWeights, openModelWeights } from './model-weights.js';
export {
  compileModulePattern,
  hasSuffix,
  lastPartOf,
  type ModulePattern,
  PatternError,
  patternKeyMatcher,
  targetModulesOf,
  wholeNameMatcher,
} from './module-pattern.js';
export { type ReadWeightsOptions, readWeights, type WeightTarget } from './read-weights.js';
export { stripped, WHITE_SPACE } from './template-strip.js';
export { TextStream } from './text-stream.js';
export { withOwnHead } from './tied-head.js';
export { loadTokenizer, type Tokenizer, type TokensAround } from './tokenizer.js';
export { digestTokenizer } from './tokenizer-digest.js';
export { readTokenizerFiles, type TokenizerFiles } from './tokenizer-files.js';
export { digestOfFiles, WEIGHT_DIGESTS_FOLDER, WeightDigests, type WeightsState } from './weight-digests.js';
export type { LocatedTensor, WeightFile } from './weight-files.js';
export { checkScales, type FourBitWeight, type StoredWeight } from './weight-formats/four-bit.js';
export { Fp8Weight } from './weight-formats/fp8.js';
export { checkMxfp4Scales, type Mxfp4Weight } from './weight-formats/mxfp4.js';
export { MadeWeight } from './weight-formats/quantized-on-load.js';
export type { QuantizedType } from './weight-formats/quantized-type.js';
export {
  pieceOf,
  type QuantizedWeight,
  type WeightReader,
} from './weight-formats/quantized-weight.js';
export { expertsStayQuantized, staysQuantized } from './weight-formats/weight-formats.js';
export { checkDecays, checkFactor, checkRouter } from './weight-values.js';
export { parseWithWholeFloats, WholeFloat } from './whole-floats.js';
