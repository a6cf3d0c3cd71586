export { type CommonForm, commonFormBytes, cutRank, manifestLora, withScale } from './common-scale.js';
export { checkFitsBase } from './fits-base.js';
export { ofExpert, type PeftAdapter, type PeftModule } from './peft-adapter.js';
export { type AdapterBase, readPeftFolder, withServedNames, writePeftFolder } from './peft-folder.js';
export { fromPeftB, moduleOf, wrapperPaths } from './peft-weights.js';
export { perExpert, type RowsOfGateUp, rowsOfGateUp, withFusedExperts } from './per-expert.js';
