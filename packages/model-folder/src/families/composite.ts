import type { Architecture, DecoderArchitecture } from '../architecture.js';
import { checkCausalLm, readTokenIds } from '../config/decoder-config.js';
import { withExpertFiles } from '../config/experts.js';
import { decoderLayout } from '../decoder-layout.js';
import { type DecoderNames, tensorName } from '../decoder-names.js';
import type { Family, FamilySource } from './family.js';

/** The path of the language model in a composite: in module paths, and in the files of transformers 5 and of older releases. */
const MODULES = 'model.language_model.';
const FILE_PREFIXES: readonly DecoderNames['prefixes'][] = [
  [],
  [
    { modules: MODULES, files: 'language_model.model.' },
    { modules: 'lm_head', files: 'language_model.lm_head' },
  ],
  [{ modules: MODULES, files: 'model.' }],
];

/** True if a decoder is the language model of a composite: other parts may have layers with the same last names. */
export function isComposite(architecture: Architecture): boolean {
  return architecture.kind === 'decoder' && architecture.names.layers.startsWith(MODULES);
}

/**
 * A language model with encoders of images or sound next to it, in `text_config`. Rows of text do not reach the encoders: their
 * weights are neither required nor read.
 *
 * @param causalLm of `architectures`
 * @param languageModels by the `model_type` of `text_config`
 * @param options `covers`: see Family; `tiedHead`: the default of the composite's own field
 */
export function composite(
  causalLm: string,
  languageModels: ReadonlyMap<string, Family<DecoderArchitecture>>,
  { covers, tiedHead = true }: { covers: string; tiedHead?: boolean },
): Family<DecoderArchitecture> {
  return {
    covers,
    readArchitecture(source) {
      const { config } = source;
      checkCausalLm(source, causalLm);
      const text = config.nested('text_config');
      if (text === undefined) throw config.corrupt('text_config', 'is missing');
      const modelType = text.text('model_type');
      if (modelType === undefined) throw text.corrupt('model_type', 'is missing');
      const family = languageModels.get(modelType);
      if (family === undefined) {
        throw text.unsupported('model_type', `is not supported here; ${[...languageModels.keys()].join(', ')} are`);
      }
      const decoder = family.readArchitecture({ ...source, config: text });
      const { eosTokenIds, ...ids } = readTokenIds(
        { ...source, config: config.has('eos_token_id') ? config : text },
        decoder.vocabSize,
        decoder,
      );
      const names = compositeNames(decoder.names, source);
      return {
        ...decoder,
        ...ids,
        // The files were looked at by the names that the language model has alone.
        layers: withExpertFiles(source, names, decoder.layers),
        eosTokenIds: [...new Set([...decoder.eosTokenIds, ...eosTokenIds])],
        names,
        tiedHead: config.flag('tie_word_embeddings', tiedHead),
      };
    },
    layout: decoderLayout,
  };
}

function compositeNames(names: DecoderNames, { hasTensor }: FamilySource): DecoderNames {
  const moved = (path: string) => path.replace(/^model\./, MODULES);
  const { embedding, layers, finalNorm, layerInputs } = names;
  const own = {
    ...names,
    embedding: moved(embedding),
    layers: moved(layers),
    finalNorm: moved(finalNorm),
    layerInputs: layerInputs && {
      ...layerInputs,
      embedding: moved(layerInputs.embedding),
      projection: moved(layerInputs.projection),
      norm: moved(layerInputs.norm),
    },
  };
  const inFiles = (prefixes: DecoderNames['prefixes']) =>
    hasTensor(tensorName({ ...own, prefixes }, `${own.finalNorm}.weight`));
  return { ...own, prefixes: FILE_PREFIXES.find(inFiles) ?? [] };
}
