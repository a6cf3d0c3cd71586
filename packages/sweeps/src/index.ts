export { type AtRung, decideRung, metricOf, metricValue, rankingOf, shareOfHalving, stepOfRung } from './halving.js';
export { type Variant, valuesText, variantsOf } from './variants.js';
