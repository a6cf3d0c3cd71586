export {
  type CompiledGrader,
  compileGrader,
  type GradedAnswer,
  type OutsideGrader,
  scoreReader,
} from './compile-grader.js';
export { GraderError } from './formula.js';
export { type AnswerPair, type CompiledPairJudge, compilePairJudge, type PlaceVerdict } from './pair-judge.js';
export { answerScores } from './similarity.js';
