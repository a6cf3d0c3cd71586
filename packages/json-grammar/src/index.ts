export { JsonGrammars } from './json-grammars.js';
export {
  type CallableFunction,
  checkSchema,
  placeInCall,
  SchemaError,
  schemaLimits,
  schemaOfCall,
} from './schema-terms.js';
export { GrammarTooLargeError } from './terms.js';
export { TokenTrie } from './token-masks.js';
