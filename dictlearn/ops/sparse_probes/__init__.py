"""Linear probes: which few features tell a label, and how well.

logistic   L2 and L1 logistic regression to its optimum, for many labels and supports in one program
hinge      the linear support vector machine to its optimum
rankers    scores of features, by which supports are chosen
sweeps     supports from a ranking: heuristic, telescopic, pruned, one by one
optimal    the support of k features with the smallest hinge loss, proved
scores     F1, MCC, ROC-AUC and others of logits
"""
