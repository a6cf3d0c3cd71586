export {
  type AtRung,
  decideRung,
  metricOf,
  metricValue,
  rankingOf,
  shareOfHalving,
  stepOfRung,
} from './compare-variants.js';
export { type Variant, valuesText, variantsOf } from './variants.js';
