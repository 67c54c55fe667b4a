// A submission to cs149gpt with all parts right, in the shape that the assignment gives it: what
// `lab`, `check` and `generate` must take as it is. No maximum is subtracted, as the assignment has
// it. tests/cs149/mistakes.py makes wrong ones of it.
#include <ATen/ATen.h>
#include <immintrin.h>
#include <iostream>
#include <sys/time.h>
#include <time.h>
#include <torch/extension.h>
#include <vector>

// #include "module_ispc.h"
// using namespace ispc;

inline float twoDimRead(std::vector<float> &tensor, int &x, int &y, const int &sizeX) {
    return tensor[x * sizeX + y];
}

inline void twoDimWrite(std::vector<float> &tensor, int &x, int &y, const int &sizeX, float &val) {
    tensor[x * sizeX + y] = val;
}

inline float fourDimRead(std::vector<float> &tensor, int &x, int &y, int &z, int &b,
                         const int &sizeX, const int &sizeY, const int &sizeZ) {
    return tensor[((x * sizeX + y) * sizeY + z) * sizeZ + b];
}

inline void fourDimWrite(std::vector<float> &tensor, int &x, int &y, int &z, int &b,
                         const int &sizeX, const int &sizeY, const int &sizeZ, float &val) {
    tensor[((x * sizeX + y) * sizeY + z) * sizeZ + b] = val;
}

std::vector<float> formatTensor(torch::Tensor tensor) {
    tensor = tensor.flatten();
    tensor = tensor.contiguous();
    return std::vector<float>(tensor.data_ptr<float>(), tensor.data_ptr<float>() + tensor.numel());
}

// -- part 1

torch::Tensor myNaiveAttention(torch::Tensor QTensor, torch::Tensor KTensor, torch::Tensor VTensor,
                               torch::Tensor QK_tTensor, int B, int H, int N, int d) {
    at::Tensor OTensor = at::zeros({B, H, N, d}, at::kFloat);
    std::vector<float> O = formatTensor(OTensor), QK_t = formatTensor(QK_tTensor);
    std::vector<float> Q = formatTensor(QTensor), K = formatTensor(KTensor);
    std::vector<float> V = formatTensor(VTensor);
    for (int b = 0; b < B; b++)
        for (int h = 0; h < H; h++) {
            for (int i = 0; i < N; i++)
                for (int j = 0; j < N; j++) {
                    float sum = 0;
                    for (int k = 0; k < d; k++)
                        sum += fourDimRead(Q, b, h, i, k, H, N, d) *
                               fourDimRead(K, b, h, j, k, H, N, d);
                    twoDimWrite(QK_t, i, j, N, sum);
                }
            for (int i = 0; i < N; i++) {
                float total = 0;
                for (int j = 0; j < N; j++)
                    total += exp(twoDimRead(QK_t, i, j, N));
                for (int j = 0; j < N; j++) {
                    float p = exp(twoDimRead(QK_t, i, j, N)) / total;
                    twoDimWrite(QK_t, i, j, N, p);
                }
            }
            for (int i = 0; i < N; i++)
                for (int k = 0; k < d; k++) {
                    float sum = 0;
                    for (int j = 0; j < N; j++)
                        sum += twoDimRead(QK_t, i, j, N) * fourDimRead(V, b, h, j, k, H, N, d);
                    fourDimWrite(O, b, h, i, k, H, N, d, sum);
                }
        }
    return torch::from_blob(O.data(), {B, H, N, d}, torch::TensorOptions().dtype(torch::kFloat32))
        .clone();
}

// -- part 2

torch::Tensor myUnfusedAttentionBlocked(torch::Tensor QTensor, torch::Tensor KTensor,
                                        torch::Tensor VTensor, torch::Tensor QK_tTensor, int B,
                                        int H, int N, int d) {
    at::Tensor OTensor = at::zeros({B, H, N, d}, at::kFloat);
    std::vector<float> O = formatTensor(OTensor), QK_t = formatTensor(QK_tTensor);
    std::vector<float> Q = formatTensor(QTensor), K = formatTensor(KTensor);
    std::vector<float> V = formatTensor(VTensor);
    const int L = 16;
    for (int b = 0; b < B; b++)
        for (int h = 0; h < H; h++) {
            std::fill(QK_t.begin(), QK_t.end(), 0.0f);
            for (int i0 = 0; i0 < N; i0 += L)
                for (int j0 = 0; j0 < N; j0 += L)
                    for (int k0 = 0; k0 < d; k0 += L)
                        for (int i = i0; i < std::min(i0 + L, N); i++)
                            for (int j = j0; j < std::min(j0 + L, N); j++) {
                                float sum = twoDimRead(QK_t, i, j, N);
                                for (int k = k0; k < std::min(k0 + L, d); k++)
                                    sum += fourDimRead(Q, b, h, i, k, H, N, d) *
                                           fourDimRead(K, b, h, j, k, H, N, d);
                                twoDimWrite(QK_t, i, j, N, sum);
                            }
            for (int i = 0; i < N; i++) {
                float total = 0;
                for (int j = 0; j < N; j++) {
                    float e = exp(twoDimRead(QK_t, i, j, N));
                    twoDimWrite(QK_t, i, j, N, e);
                    total += e;
                }
                for (int j = 0; j < N; j++) {
                    float p = twoDimRead(QK_t, i, j, N) / total;
                    twoDimWrite(QK_t, i, j, N, p);
                }
            }
            for (int i0 = 0; i0 < N; i0 += L)
                for (int k0 = 0; k0 < d; k0 += L)
                    for (int j0 = 0; j0 < N; j0 += L)
                        for (int i = i0; i < std::min(i0 + L, N); i++)
                            for (int k = k0; k < std::min(k0 + L, d); k++) {
                                float sum = fourDimRead(O, b, h, i, k, H, N, d);
                                for (int j = j0; j < std::min(j0 + L, N); j++)
                                    sum += twoDimRead(QK_t, i, j, N) *
                                           fourDimRead(V, b, h, j, k, H, N, d);
                                fourDimWrite(O, b, h, i, k, H, N, d, sum);
                            }
        }
    return torch::from_blob(O.data(), {B, H, N, d}, torch::TensorOptions().dtype(torch::kFloat32))
        .clone();
}

// -- part 3

torch::Tensor myFusedAttention(torch::Tensor QTensor, torch::Tensor KTensor, torch::Tensor VTensor,
                               torch::Tensor temp, int B, int H, int N, int d) {
    at::Tensor OTensor = at::zeros({B, H, N, d}, at::kFloat);
    std::vector<float> O = formatTensor(OTensor);
    std::vector<float> Q = formatTensor(QTensor), K = formatTensor(KTensor);
    std::vector<float> V = formatTensor(VTensor);
#pragma omp parallel for collapse(3)
    for (int b = 0; b < B; b++)
        for (int h = 0; h < H; h++)
            for (int i = 0; i < N; i++) {
                at::Tensor ORowTensor = temp.index(
                    {torch::indexing::Slice(omp_get_thread_num(), torch::indexing::None)});
                std::vector<float> ORow = formatTensor(ORowTensor);
                float total = 0;
                for (int j = 0; j < N; j++) {
                    float sum = 0;
                    for (int k = 0; k < d; k++)
                        sum += fourDimRead(Q, b, h, i, k, H, N, d) *
                               fourDimRead(K, b, h, j, k, H, N, d);
                    ORow[j] = exp(sum);
                    total += ORow[j];
                }
                for (int k = 0; k < d; k++) {
                    float sum = 0;
                    for (int j = 0; j < N; j++)
                        sum += ORow[j] / total * fourDimRead(V, b, h, j, k, H, N, d);
                    fourDimWrite(O, b, h, i, k, H, N, d, sum);
                }
            }
    return torch::from_blob(O.data(), {B, H, N, d}, torch::TensorOptions().dtype(torch::kFloat32))
        .clone();
}

// -- part 4

torch::Tensor myFlashAttention(torch::Tensor QTensor, torch::Tensor KTensor, torch::Tensor VTensor,
                               torch::Tensor QiTensor, torch::Tensor KjTensor,
                               torch::Tensor VjTensor, torch::Tensor SijTensor,
                               torch::Tensor PijTensor, torch::Tensor PVTensor,
                               torch::Tensor OiTensor, torch::Tensor LTensor,
                               torch::Tensor LiTensor, torch::Tensor LijTensor,
                               torch::Tensor LnewTensor, int Bc, int Br, int B, int H, int N,
                               int d) {
    at::Tensor OTensor = at::zeros({B, H, N, d}, at::kFloat);
    std::vector<float> O = formatTensor(OTensor);
    std::vector<float> Q = formatTensor(QTensor), K = formatTensor(KTensor);
    std::vector<float> V = formatTensor(VTensor);
    std::vector<float> Qi = formatTensor(QiTensor), Kj = formatTensor(KjTensor);
    std::vector<float> Vj = formatTensor(VjTensor), Oi = formatTensor(OiTensor);
    std::vector<float> Sij = formatTensor(SijTensor), Pij = formatTensor(PijTensor);
    std::vector<float> PV = formatTensor(PVTensor), l = formatTensor(LTensor);
    std::vector<float> li = formatTensor(LiTensor), lij = formatTensor(LijTensor);
    std::vector<float> lnew = formatTensor(LnewTensor);
    for (int b = 0; b < B; b++)
        for (int h = 0; h < H; h++) {
            std::fill(l.begin(), l.end(), 0.0f);
            for (int j0 = 0; j0 < N; j0 += Bc) {
                const int columns = std::min(Bc, N - j0);
                for (int j = 0; j < columns; j++)
                    for (int k = 0; k < d; k++) {
                        int row = j0 + j;
                        Kj[j * d + k] = fourDimRead(K, b, h, row, k, H, N, d);
                        Vj[j * d + k] = fourDimRead(V, b, h, row, k, H, N, d);
                    }
                for (int i0 = 0; i0 < N; i0 += Br) {
                    const int rows = std::min(Br, N - i0);
                    for (int i = 0; i < rows; i++) {
                        for (int k = 0; k < d; k++) {
                            int row = i0 + i;
                            Qi[i * d + k] = fourDimRead(Q, b, h, row, k, H, N, d);
                            Oi[i * d + k] = fourDimRead(O, b, h, row, k, H, N, d);
                        }
                        li[i] = l[i0 + i];
                    }
                    for (int i = 0; i < rows; i++) {
                        lij[i] = 0;
                        for (int j = 0; j < columns; j++) {
                            float sum = 0;
                            for (int k = 0; k < d; k++)
                                sum += Qi[i * d + k] * Kj[j * d + k];
                            twoDimWrite(Sij, i, j, Bc, sum);
                            float p = exp(sum);
                            twoDimWrite(Pij, i, j, Bc, p);
                            lij[i] += p;
                        }
                        lnew[i] = li[i] + lij[i];
                        for (int k = 0; k < d; k++) {
                            float pv = 0;
                            for (int j = 0; j < columns; j++)
                                pv += twoDimRead(Pij, i, j, Bc) * Vj[j * d + k];
                            PV[i * d + k] = pv;
                            Oi[i * d + k] = (li[i] * Oi[i * d + k] + PV[i * d + k]) / lnew[i];
                        }
                    }
                    for (int i = 0; i < rows; i++) {
                        int row = i0 + i;
                        for (int k = 0; k < d; k++)
                            fourDimWrite(O, b, h, row, k, H, N, d, Oi[i * d + k]);
                        l[row] = lnew[i];
                    }
                }
            }
        }
    return torch::from_blob(O.data(), {B, H, N, d}, torch::TensorOptions().dtype(torch::kFloat32))
        .clone();
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("myNaiveAttention", &myNaiveAttention, "Naive Attention");
    m.def("myUnfusedAttentionBlocked", &myUnfusedAttentionBlocked, "Blocked Unfused Attention");
    m.def("myFusedAttention", &myFusedAttention, "Fused Attention");
    m.def("myFlashAttention", &myFlashAttention, "Flash Attention");
    m.def("twoDimRead", &twoDimRead, "twoDimRead");
    m.def("fourDimRead", &fourDimRead, "fourDimRead");
}
